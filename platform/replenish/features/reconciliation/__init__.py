"""Reconciliation: what was served, computed again offline, and the cause found of every difference."""
