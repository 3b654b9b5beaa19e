"""`replenish standby`: ship the log to a second root, see how far it is behind, promote it."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.deployment import default_root, now_utc
from replenish.cli.tables import open_console
from replenish.errors import StoreError
from replenish.stores.fence import VARIABLE, set_up_fence
from replenish.stores.layout import RootLayout
from replenish.stores.standby import MAX_LAG_SECONDS, promote, read_standby, ship

group = typer.Typer(help="A second region: ship the log, watch its lag, promote it.", no_args_is_help=True)
Target = Annotated[Path, typer.Option("--to", help="Root of the standby: a folder of the other region.")]
Root = Annotated[Path | None, typer.Option(help="Root of the primary.")]


@group.command("ship")
def ship_log(
    to: Target,
    root: Root = None,
    every: Annotated[float | None, typer.Option(help="Go on shipping, this many seconds apart.")] = None,
) -> None:
    """Ship what the standby does not have yet: records, dead letters and files, verified."""
    primary, standby = RootLayout(root or default_root()), RootLayout(to)
    console = open_console()
    while True:
        shipped = ship(primary, standby, now=now_utc())
        n = shipped.last_seq - shipped.first_seq + 1
        where = f"records {shipped.first_seq} to {shipped.last_seq}" if n else f"nothing new after {shipped.last_seq}"
        if n or every is None:
            console.print(f"shipped {where}, {shipped.n_files} files", soft_wrap=True)
        if every is None:
            return
        time.sleep(every)


@group.command("status")
def show_standby(
    to: Target,
    root: Root = None,
    max_lag_seconds: Annotated[float, typer.Option(help="Further behind than this is an alarm.")] = MAX_LAG_SECONDS,
) -> None:
    """How far the standby is behind; exit code 1 where that is too far."""
    state = read_standby(RootLayout(to), RootLayout(root or default_root()), now=now_utc())
    console = open_console()
    role = "standby" if state.is_standby else "promoted: a primary"
    console.print(f"{role}, epoch {state.epoch}, last record {state.last_seq}", soft_wrap=True)
    if state.shipped_at is not None:
        console.print(f"last shipped {state.shipped_at.isoformat(timespec='seconds')}, range {state.last_range or '-'}")
    if state.lag_events is None or state.lag_seconds is None:
        console.print("the primary cannot be reached from here: its lag is not known")
        return
    console.print(f"behind by {state.lag_events} records, {state.lag_seconds:.0f} s")
    if state.is_standby and state.lag_seconds > max_lag_seconds:
        console.print(f"[bold red]alarm[/]: more than {max_lag_seconds:.0f} s behind; see docs/runbooks/standby.md")
        raise typer.Exit(1)


@group.command("promote")
def promote_standby(
    to: Target,
    root: Root = None,
    force: Annotated[
        bool, typer.Option("--force", help="Although another root was promoted first, or this root's log is damaged.")
    ] = False,
) -> None:
    """Fence the old primary off, take what it still has, and let the standby write."""
    promoted = promote(RootLayout(to), RootLayout(root or default_root()), now=now_utc(), is_forced=force)
    console = open_console()
    words = "promoted" if promoted.is_new else "was promoted before"
    console.print(f"{words}: epoch {promoted.epoch} from record {promoted.last_seq}", soft_wrap=True)
    console.print(f"{promoted.n_caught_up} records were still taken from the old primary")
    console.print("next: `replenish doctor` or `replenish rebuild` with this root brings its lake up", soft_wrap=True)


@group.command("fence")
def make_fence() -> None:
    """Set up the shared fence that REPLENISH_FENCE names, once, before its roots begin to write."""
    named = os.environ.get(VARIABLE)
    if not named:
        raise StoreError(f"{VARIABLE} names no shared fence: give it the path of a file that all roots can reach")
    is_new = set_up_fence(Path(named))
    words = "set up" if is_new else "is there already and stays as it is"
    open_console().print(f"the shared fence {named} {words}", soft_wrap=True)
