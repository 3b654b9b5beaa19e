"""Stage 6: from forecast and stock to governed order decisions, each with its terms."""
