"""Where alerts go: a file per alert under the root, and a webhook where the policy names one."""

from pathlib import Path

import dagster as dg

from replenish.control.alerts import Alert, deliver
from replenish.stores.layout import RootLayout


class AlertBoxResource(dg.ConfigurableResource):
    """Delivers alerts of one deployment; the same alert id is delivered once."""

    root: str
    urls: dict[str, str] = {}
    """Webhook addresses by the variable that a route names; filled from the environment."""

    def send(self, alert: Alert) -> bool:
        """Deliver; False where this alert was delivered before."""
        return deliver(alert, RootLayout(Path(self.root)).alerts, urls=self.urls)
