"""Stage 3: what was known at each origin, as rows a model can read. Reads gold, writes features."""
