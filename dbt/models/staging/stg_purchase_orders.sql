with

source as (
    select * from {{ source('silver', 'purchase_orders') }}
),

renamed as (
    select
        -- ids
        po_id,
        po_line,
        supplier_id,
        sku_id,
        location_id,

        -- values
        cast(ordered_units as bigint) as ordered_units,

        -- times
        ordered_at,
        promised_at,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
