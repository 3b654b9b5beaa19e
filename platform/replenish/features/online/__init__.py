"""The resident twin: definitions of feature sets as state per key, moved on posting by posting. No clock here."""
