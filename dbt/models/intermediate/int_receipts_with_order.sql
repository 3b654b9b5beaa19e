with

receipts as (
    select * from {{ ref('stg_receipts') }}
),

order_versions as (
    select * from {{ ref('int_purchase_order_versions') }}
),

ended as (
    select
        receipt_id,
        version_nr,
        knowledge_time as known_until
    from receipts
    where posting_kind = 'reversal'
),

versions as (
    select
        receipts.*,
        ended.known_until
    from receipts
    left join ended
        on receipts.receipt_id = ended.receipt_id
        and receipts.version_nr = ended.version_nr
    where receipts.posting_kind = 'version'
),

-- The order version live when the receipt became known; without one, the first that became known while the receipt was.
first_known as (
    select
        versions.receipt_id,
        versions.version_nr,
        min(order_versions.known_from) as known_from
    from versions
    inner join order_versions
        on versions.po_id = order_versions.po_id
        and versions.po_line = order_versions.po_line
        and (order_versions.known_until is null or order_versions.known_until > versions.knowledge_time)
        and (order_versions.known_until is null or order_versions.known_until > order_versions.known_from)
        and (versions.known_until is null or order_versions.known_from < versions.known_until)
    group by versions.receipt_id, versions.version_nr
),

joined as (
    select
        versions.receipt_id,
        versions.version_nr,
        order_versions.supplier_id,
        coalesce(order_versions.sku_id, versions.sku_id) as sku_id,
        coalesce(order_versions.location_id, versions.location_id) as location_id,
        order_versions.ordered_at,
        order_versions.promised_at,
        cast(date_diff('day', order_versions.ordered_date, versions.event_date) as bigint) as lead_time_days,
        order_versions.known_from as order_known_from,
        order_versions.known_from_date as order_known_date,
        coalesce(order_versions.known_from > versions.knowledge_time, false) as is_order_late
    from versions
    left join first_known
        on versions.receipt_id = first_known.receipt_id
        and versions.version_nr = first_known.version_nr
    left join order_versions
        on versions.po_id = order_versions.po_id
        and versions.po_line = order_versions.po_line
        and first_known.known_from = order_versions.known_from
        and (order_versions.known_until is null or order_versions.known_until > order_versions.known_from)
)

select * from joined
