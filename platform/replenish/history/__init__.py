"""Stage 2: the log becomes bronze (as received) and silver (bitemporal ledger of versions)."""
