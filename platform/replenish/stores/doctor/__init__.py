"""Checks of what is on disk, and setting aside by rename. Mending that needs a stage is composed in `cli`."""
