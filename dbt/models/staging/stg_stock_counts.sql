with

source as (
    select * from {{ source('silver', 'stock_counts') }}
),

renamed as (
    select
        -- ids
        sku_id,
        location_id,

        -- values
        cast(on_hand_units as bigint) as on_hand_units,

        -- times
        counted_at,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
