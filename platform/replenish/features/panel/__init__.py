"""The dense panel form of the offline evaluator: all series at all origins of a range, as arrays."""
