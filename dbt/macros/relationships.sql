{#- dbt's `relationships`, with two differences: a data set without any row in the referenced table (it has no such feed)
    is not judged, and each unknown value counts once. -#}
{% macro default__test_relationships(model, column_name, to, field) %}
select distinct {{ column_name }} as unknown_value
from {{ model }}
where
    {{ column_name }} is not null
    and {{ column_name }} not in (select {{ field }} from {{ to }} where {{ field }} is not null)
    and exists (select 1 from {{ to }} where {{ field }} is not null)
{% endmacro %}
