{% test matches_pattern(model, column_name, pattern) %}
-- Rows whose whole text does not match the contract's regular expression; null is judged by not_null alone.
select {{ column_name }}
from {{ model }}
where not regexp_full_match({{ column_name }}, '{{ pattern | replace("'", "''") }}')
{% endtest %}
