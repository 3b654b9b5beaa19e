"""What lateness cost: rows known after they were due, and the features, forecasts and orders they change."""
