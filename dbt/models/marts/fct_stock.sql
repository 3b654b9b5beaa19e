with

stock_counts as (
    select * from {{ ref('stg_stock_counts') }}
),

final as (
    select
        sku_id,
        location_id,
        event_time,
        event_date,
        knowledge_time,
        knowledge_date,
        on_hand_units,
        version_nr,
        posting_kind,
        posting_sign
    from stock_counts
)

select * from final
