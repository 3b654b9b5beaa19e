"""What features are read from, stored and kept up to date: state logs of latest values, rows of daily grids."""
