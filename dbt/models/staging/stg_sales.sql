with

source as (
    select * from {{ source('silver', 'sales') }}
),

renamed as (
    select
        -- ids
        location_id,
        sale_id,
        sku_id,
        customer_id,

        -- values
        cast(units as bigint) as units,
        cast(revenue_cents as bigint) as revenue_cents,
        cast(unit_price_cents as bigint) as unit_price_cents,

        -- times
        sold_at,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
