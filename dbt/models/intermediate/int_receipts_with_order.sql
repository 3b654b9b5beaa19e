with

receipts as (
    select * from {{ ref('stg_receipts') }}
),

order_versions as (
    select * from {{ ref('int_purchase_order_versions') }}
),

-- The order as it was known when the receipt's version became known: never looks ahead.
joined as (
    select
        receipts.receipt_id,
        receipts.version_nr,
        order_versions.supplier_id,
        coalesce(order_versions.sku_id, receipts.sku_id) as sku_id,
        coalesce(order_versions.location_id, receipts.location_id) as location_id,
        order_versions.ordered_at,
        order_versions.promised_at,
        date_diff('day', order_versions.ordered_date, receipts.event_date) as lead_time_days
    from receipts
    left join order_versions
        on receipts.po_id = order_versions.po_id
        and receipts.po_line = order_versions.po_line
        and receipts.knowledge_time >= order_versions.known_from
        and (order_versions.known_until is null or receipts.knowledge_time < order_versions.known_until)
    where receipts.posting_kind = 'version'
)

select * from joined
