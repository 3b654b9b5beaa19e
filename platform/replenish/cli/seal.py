"""`replenish seal`: move the log into sealed segments, and old bodies out of the journal."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from replenish.cli.deployment import default_root, now_utc
from replenish.cli.tables import open_console
from replenish.errors import StoreError
from replenish.stores.journal import Journal
from replenish.stores.layout import RootLayout
from replenish.stores.segments import MIN_RECORDS, seal, sealed_segments
from replenish.stores.trim import KEEP_DAYS, trim


def seal_log(
    min_records: Annotated[int, typer.Option(help="Fewer new records than this wait for the next time.")] = MIN_RECORDS,
    keep_days: Annotated[int, typer.Option(help="Bodies of younger events stay in the journal too.")] = KEEP_DAYS,
    root: Annotated[Path | None, typer.Option(help="Root of the deployment.")] = None,
) -> None:
    """Seal new records of the log in checked segments, then trim sealed, settled, old event bodies."""
    layout = RootLayout(root or default_root())
    if not layout.journal.is_file():
        raise StoreError("there is no journal here", path=layout.journal)
    journal, console = Journal(layout.journal), open_console()
    for segment in seal(journal, layout, min_records=min_records):
        console.print(f"sealed records {segment.first_seq} to {segment.last_seq}", soft_wrap=True)
    segments = sealed_segments(layout.segments)
    n_waiting = journal.last_seq() - (segments[-1].last_seq if segments else 0)
    console.print(f"{n_waiting:,} records are not sealed yet; a segment takes at least {min_records:,}", soft_wrap=True)
    n_trimmed = trim(journal, layout, now=now_utc(), keep_days=keep_days)
    console.print(f"trimmed {n_trimmed:,} event bodies older than {keep_days} days out of the journal", soft_wrap=True)
    journal.close()
