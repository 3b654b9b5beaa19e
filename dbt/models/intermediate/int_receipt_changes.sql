with

receipts as (
    select * from {{ ref('stg_receipts') }}
),

with_order as (
    select * from {{ ref('int_receipts_with_order') }}
),

joined as (
    select
        receipts.po_id,
        receipts.po_line,
        receipts.sku_id as own_sku_id,
        receipts.location_id as own_location_id,
        receipts.received_at,
        receipts.received_units,
        receipts.knowledge_time,
        receipts.knowledge_date,
        receipts.posting_kind,
        receipts.posting_sign,
        with_order.* exclude (receipt_id, version_nr)
    from receipts
    inner join with_order
        on receipts.receipt_id = with_order.receipt_id
        and receipts.version_nr = with_order.version_nr
),

-- A receipt known before its order stands without it first; when the order becomes known, that row is taken back and
-- posted again with the order. What reverses the receipt later reverses the latter.
posted as (
    select
        *,
        not is_order_late or posting_kind = 'reversal' as has_order
    from joined
    union all
    select
        * replace (order_known_from as knowledge_time, order_known_date as knowledge_date, -1 as posting_sign),
        false as has_order
    from joined
    where is_order_late and posting_kind = 'version'
    union all
    select
        * replace (order_known_from as knowledge_time, order_known_date as knowledge_date, 1 as posting_sign),
        true as has_order
    from joined
    where is_order_late and posting_kind = 'version'
),

changes as (
    select
        po_id,
        po_line,
        case when has_order then supplier_id end as supplier_id,
        case when has_order then sku_id else own_sku_id end as sku_id,
        case when has_order then location_id else own_location_id end as location_id,
        case when has_order then ordered_at end as ordered_at,
        case when has_order then promised_at end as promised_at,
        received_at,
        received_units,
        case when has_order then lead_time_days end as lead_time_days,
        knowledge_time,
        knowledge_date,
        posting_sign
    from posted
)

select * from changes
