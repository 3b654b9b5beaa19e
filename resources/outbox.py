"""The outbox: the folder that receives executed decisions."""

from pathlib import Path

import dagster as dg

from replenish.stores.layout import RootLayout
from replenish.stores.outbox import Outbox


class OutboxResource(dg.ConfigurableResource):
    """Opens the outbox of one deployment."""

    root: str

    def open(self) -> Outbox:
        """The outbox of executed decisions."""
        return Outbox(RootLayout(Path(self.root)).outbox)
