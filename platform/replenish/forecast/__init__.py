"""Stage 4: models, backtests, metrics and the forecasts themselves. Reads gold and features."""
