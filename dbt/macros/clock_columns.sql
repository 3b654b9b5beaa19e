{#- When it happened and when it was known: on every staging model, in this order. -#}
{% macro clock_columns() -%}
    event_time,
    event_date,
    knowledge_time,
    knowledge_date
{%- endmacro %}

{#- Place of the row in its fact's ledger of versions. -#}
{% macro posting_columns() -%}
    cast(version_nr as integer) as version_nr,
    posting_kind,
    cast(posting_sign as integer) as posting_sign
{%- endmacro %}
