"""Feature sets as SQL, for engines that spread over machines; equal to `features.offline` on every row."""
