with

source as (
    select * from {{ source('silver', 'receipts') }}
),

renamed as (
    select
        -- ids
        receipt_id,
        po_id,
        po_line,
        sku_id,
        location_id,

        -- values
        cast(received_units as bigint) as received_units,

        -- times
        received_at,
        {{ clock_columns() }},

        -- posting
        {{ posting_columns() }}
    from source
)

select * from renamed
