"""`replenish maintain`: keep the lake's tables small, now instead of tonight."""

from __future__ import annotations

from typing import Annotated

import polars as pl
import typer

from replenish.cli.deployment import default_root, now_utc
from replenish.cli.tables import frame_table, open_console
from replenish.errors import StoreError
from replenish.stores.lake import DeltaLake
from replenish.stores.lake_maintenance import maintain_table
from replenish.stores.layout import RootLayout


def maintain_tables(
    table: Annotated[str | None, typer.Argument(help="One table, such as bronze/sales; default: all.")] = None,
    pin: Annotated[
        list[str] | None, typer.Option(help="TABLE=VERSION that has to stay readable; may be given again.")
    ] = None,
) -> None:
    """Compact tables, remove files replaced a week ago and log entries older than thirty days; rows stay the same."""
    lake = DeltaLake(RootLayout(default_root()).lake)
    pins = _pins(pin or [])
    names = [table] if table is not None else lake.table_names()
    done = [maintain_table(lake, name, now=now_utc(), pins=pins.get(name, ())) for name in names]
    if done:
        open_console().print(frame_table("lake maintenance", pl.DataFrame([vars(one) for one in done])))
    faults = [one for one in done if one.fault is not None]
    if faults:
        raise StoreError(
            f"{len(faults)} tables were left for later, the first: {faults[0].fault}", table=faults[0].table
        )


def _pins(given: list[str]) -> dict[str, list[int]]:
    pins: dict[str, list[int]] = {}
    for text in given:
        name, _, version = text.rpartition("=")
        if not name or not version.isdigit():
            raise StoreError("a pin is TABLE=VERSION, such as bronze/sales=120", given=text)
        pins.setdefault(name, []).append(int(version))
    return pins
