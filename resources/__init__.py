"""Dagster resources, each wraps one adapter; `environment.py` says which ones a deployment gets."""
