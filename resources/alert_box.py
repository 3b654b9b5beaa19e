"""Where alerts go: a file per alert under the root, and a webhook where the policy names one."""

from pathlib import Path

import dagster as dg

from replenish.control.alerts import Alert, deliver
from replenish.stores.layout import RootLayout


class AlertBoxResource(dg.ConfigurableResource):
    """Delivers alerts of one deployment; the same alert id is delivered once."""

    root: str

    def send(self, alert: Alert) -> bool:
        """Deliver; False where this alert was delivered before."""
        return deliver(alert, RootLayout(Path(self.root)).alerts)
