{% test at_least(model, column_name, minimum) %}
-- Rows below the contract's inclusive minimum; null is judged by not_null alone.
select {{ column_name }}
from {{ model }}
where {{ column_name }} < {{ minimum }}
{% endtest %}
