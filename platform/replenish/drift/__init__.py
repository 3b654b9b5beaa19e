"""Stage 5: has the world moved away from the model? Scores, verdicts, reports."""
