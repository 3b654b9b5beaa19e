with

orders as (
    select * from {{ ref('stg_purchase_orders') }}
),

receipts as (
    select * from {{ ref('int_receipt_changes') }}
),

ordered as (
    select
        po_id,
        po_line,
        'ordered' as supply_event,
        supplier_id,
        sku_id,
        location_id,
        ordered_at,
        promised_at,
        cast(null as timestamptz) as received_at,
        knowledge_time as recorded_at,
        knowledge_time,
        knowledge_date,
        cast(posting_sign * ordered_units as bigint) as ordered_units,
        cast(0 as bigint) as received_units,
        cast(null as bigint) as lead_time_days,
        'open' as lead_time_flag,
        posting_sign
    from orders
),

received as (
    select
        po_id,
        po_line,
        'received' as supply_event,
        supplier_id,
        sku_id,
        location_id,
        ordered_at,
        promised_at,
        received_at,
        knowledge_time as recorded_at,
        knowledge_time,
        knowledge_date,
        cast(0 as bigint) as ordered_units,
        cast(posting_sign * received_units as bigint) as received_units,
        cast(lead_time_days as bigint) as lead_time_days,
        case
            when lead_time_days is null then 'no_order'
            when lead_time_days < 0 then 'negative'
            else 'ok'
        end as lead_time_flag,
        posting_sign
    from receipts
),

final as (
    select * from ordered
    union all
    select * from received
)

select * from final
