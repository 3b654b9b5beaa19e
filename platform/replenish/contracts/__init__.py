"""Ground floor: what a stream promises (contract) and how a known source maps to it (feed).

Read from YAML, typed, then turned into validators, table schemas and dbt sources. No I/O beyond those files; no stage
logic.
"""
