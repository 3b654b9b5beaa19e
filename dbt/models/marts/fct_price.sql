with

prices as (
    select * from {{ ref('stg_prices') }}
),

final as (
    select
        sku_id,
        location_id,
        event_time,
        event_date,
        knowledge_time,
        knowledge_date,
        unit_price_cents,
        is_promotion,
        version_nr,
        posting_kind,
        posting_sign
    from prices
)

select * from final
