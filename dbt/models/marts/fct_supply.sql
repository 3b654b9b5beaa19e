with

orders as (
    select * from {{ ref('stg_purchase_orders') }}
),

receipts as (
    select * from {{ ref('stg_receipts') }}
),

receipts_with_order as (
    select * from {{ ref('int_receipts_with_order') }}
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
        receipts.po_id,
        receipts.po_line,
        'received' as supply_event,
        receipts_with_order.supplier_id,
        receipts_with_order.sku_id,
        receipts_with_order.location_id,
        receipts_with_order.ordered_at,
        receipts_with_order.promised_at,
        receipts.received_at,
        receipts.knowledge_time as recorded_at,
        receipts.knowledge_time,
        receipts.knowledge_date,
        cast(0 as bigint) as ordered_units,
        cast(receipts.posting_sign * receipts.received_units as bigint) as received_units,
        cast(receipts_with_order.lead_time_days as bigint) as lead_time_days,
        case
            when receipts_with_order.lead_time_days is null then 'no_order'
            when receipts_with_order.lead_time_days < 0 then 'negative'
            else 'ok'
        end as lead_time_flag,
        receipts.posting_sign
    from receipts
    inner join receipts_with_order
        on receipts.receipt_id = receipts_with_order.receipt_id
        and receipts.version_nr = receipts_with_order.version_nr
),

final as (
    select * from ordered
    union all
    select * from received
)

select * from final
