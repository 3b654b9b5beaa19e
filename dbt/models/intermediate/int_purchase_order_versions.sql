with

orders as (
    select * from {{ ref('stg_purchase_orders') }}
),

reversals as (
    select
        po_id,
        po_line,
        version_nr,
        knowledge_time as known_until
    from orders
    where posting_kind = 'reversal'
),

versions as (
    select
        orders.po_id,
        orders.po_line,
        orders.version_nr,
        orders.supplier_id,
        orders.sku_id,
        orders.location_id,
        orders.ordered_at,
        orders.promised_at,
        orders.event_date as ordered_date,
        orders.knowledge_time as known_from,
        orders.knowledge_date as known_from_date,
        reversals.known_until
    from orders
    left join reversals
        on orders.po_id = reversals.po_id
        and orders.po_line = reversals.po_line
        and orders.version_nr = reversals.version_nr
    where orders.posting_kind = 'version'
)

select * from versions
