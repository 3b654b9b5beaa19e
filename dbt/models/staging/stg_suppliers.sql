with

source as (
    select * from {{ source('silver', 'suppliers') }}
),

renamed as (
    select
        -- ids
        supplier_id,

        -- values
        name,
        cast(review_period_days as bigint) as review_period_days,
        cast(min_order_cents as bigint) as min_order_cents,

        -- times
        valid_from,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
