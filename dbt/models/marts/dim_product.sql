with

products as (
    select * from {{ ref('stg_products') }}
),

final as (
    select
        sku_id,
        category_id,
        supplier_id,
        description,
        pack_size_units,
        min_order_units,
        unit_cost_cents,
        unit_price_cents,
        valid_from,
        event_time,
        event_date,
        knowledge_time,
        knowledge_date,
        version_nr,
        posting_kind,
        posting_sign
    from products
)

select * from final
