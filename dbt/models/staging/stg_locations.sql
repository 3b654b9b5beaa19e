with

source as (
    select * from {{ source('silver', 'locations') }}
),

renamed as (
    select
        -- ids
        location_id,
        region_id,

        -- values
        name,
        zone,

        -- times
        valid_from,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
