"""The `replenish` command, one module per group of commands."""
