"""The model registry: challengers, the champion, and their digests."""

from pathlib import Path

import dagster as dg

from replenish.stores.layout import RootLayout
from replenish.stores.registry import ModelRegistry


class RegistryResource(dg.ConfigurableResource):
    """Opens the model registry of one deployment."""

    root: str

    def open(self) -> ModelRegistry:
        """The registry of forecast models."""
        return ModelRegistry(RootLayout(Path(self.root)).registry)
