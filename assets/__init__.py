"""Dagster shells: read, call one domain function, write, report. One file per stage."""
