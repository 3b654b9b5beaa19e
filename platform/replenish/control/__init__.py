"""Verdicts every stage may ask for (freshness, policy, alerts, manifests): plain functions, verdicts in, verdicts out. No Dagster, no tables written."""
