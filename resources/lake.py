"""The lake: Delta tables under the root."""

from pathlib import Path

import dagster as dg

from replenish.stores.lake import DeltaLake
from replenish.stores.layout import RootLayout


class LakeResource(dg.ConfigurableResource):
    """Opens the Delta tables of one deployment."""

    root: str

    def open(self) -> DeltaLake:
        """The lake; holds no connection, so every shell may open its own."""
        return DeltaLake(RootLayout(Path(self.root)).lake)
