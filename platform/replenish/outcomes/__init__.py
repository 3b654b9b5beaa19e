"""Stage 7: what decisions led to: simulated service and cost; and the built-in retailer that feeds the loop."""
