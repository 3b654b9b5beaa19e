with

source as (
    select * from {{ source('silver', 'products') }}
),

renamed as (
    select
        -- ids
        sku_id,
        category_id,
        supplier_id,

        -- values
        description,
        cast(pack_size_units as bigint) as pack_size_units,
        cast(min_order_units as bigint) as min_order_units,
        cast(unit_cost_cents as bigint) as unit_cost_cents,
        cast(unit_price_cents as bigint) as unit_price_cents,

        -- times
        valid_from,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
