with

locations as (
    select * from {{ ref('stg_locations') }}
),

final as (
    select
        location_id,
        region_id,
        name,
        zone,
        valid_from,
        event_time,
        event_date,
        knowledge_time,
        knowledge_date,
        version_nr,
        posting_kind,
        posting_sign
    from locations
)

select * from final
