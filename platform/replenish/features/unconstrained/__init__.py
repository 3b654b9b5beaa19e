"""Demand is not sales: what was wanted on days that sold out, estimated, and never without its flag."""
