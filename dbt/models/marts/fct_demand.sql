with

sales as (
    select
        *,
        case when posting_kind = 'return' then 0 else posting_sign end as sale_sign,
        case when posting_kind = 'return' then -posting_sign else 0 end as return_sign,
        case when posting_kind in ('version', 'reversal') then posting_sign else 0 end as line_sign
    from {{ ref('stg_sales') }}
),

summed as (
    select
        sku_id,
        location_id,
        event_date,
        knowledge_date,
        cast(sum(sale_sign * units) as bigint) as units,
        cast(sum(sale_sign * coalesce(revenue_cents, 0)) as bigint) as revenue_cents,
        cast(sum(return_sign * units) as bigint) as returned_units,
        cast(sum(line_sign) as bigint) as lines
    from sales
    group by sku_id, location_id, event_date, knowledge_date
),

changes as (
    select * from summed
    where units != 0 or revenue_cents != 0 or returned_units != 0 or lines != 0
)

select * from changes
