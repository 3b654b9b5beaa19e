"""The Iceberg catalog: gold, forecasts and decisions for engines other than ours."""

from pathlib import Path

import dagster as dg

from replenish.stores.catalog import IcebergCatalog
from replenish.stores.layout import RootLayout


class IcebergResource(dg.ConfigurableResource):
    """Opens the Iceberg catalog of one deployment."""

    root: str

    def open(self) -> IcebergCatalog:
        """The catalog of published tables."""
        return IcebergCatalog(RootLayout(Path(self.root)).catalog)
