with

suppliers as (
    select * from {{ ref('stg_suppliers') }}
),

final as (
    select
        supplier_id,
        name,
        review_period_days,
        min_order_cents,
        valid_from,
        event_time,
        event_date,
        knowledge_time,
        knowledge_date,
        version_nr,
        posting_kind,
        posting_sign
    from suppliers
)

select * from final
