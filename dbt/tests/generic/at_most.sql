{% test at_most(model, column_name, maximum) %}
-- Rows above the contract's inclusive maximum; null is judged by not_null alone.
select {{ column_name }}
from {{ model }}
where {{ column_name }} > {{ maximum }}
{% endtest %}
