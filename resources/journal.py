"""The journal: accepted files and events, and dead letters."""

from pathlib import Path

import dagster as dg

from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout


class JournalResource(dg.ConfigurableResource):
    """Opens the journal of one deployment."""

    root: str

    def open(self) -> Journal:
        """The journal; SQLite serialises writers, so every shell may open its own."""
        return Journal(RootLayout(Path(self.root)).journal)
