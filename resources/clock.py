"""The one clock of a run: arrival times are read here, everything else receives them."""

from datetime import UTC, datetime

import dagster as dg


class ClockResource(dg.ConfigurableResource):
    """The present instant, or a fixed one where a test or a replay sets `frozen_at` (ISO 8601 with offset)."""

    frozen_at: str | None = None

    def now(self) -> datetime:
        """The present instant in UTC."""
        if self.frozen_at is not None:
            return datetime.fromisoformat(self.frozen_at).astimezone(UTC)
        return datetime.now(UTC)
