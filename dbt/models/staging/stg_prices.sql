with

source as (
    select * from {{ source('silver', 'prices') }}
),

renamed as (
    select
        -- ids
        sku_id,
        location_id,

        -- values
        cast(unit_price_cents as bigint) as unit_price_cents,
        is_promotion,

        -- times
        valid_from,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
