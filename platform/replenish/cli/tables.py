"""What the command line prints: tables made of frames and verdicts, one function each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from replenish.ingest.door import FileVerdict
from replenish.ingest.reasons import REASONS
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import EVENTS_SETTLED, FILE_ACCEPTED, FILE_DEAD, DeadLetter
from replenish.units import CENTS_PER_UNIT_OF_MONEY

LISTED_FILES = 40
WIDTH_OF_A_FILE = 150
"""Columns to print where no terminal says how wide it is: a log, a pipe."""


def open_console() -> Console:
    """The console that commands print to: as wide as the terminal, or wide enough for our tables."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH_OF_A_FILE)


def _table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    for column in columns:
        # A name that is broken in two is a name nobody can search for.
        keep = column in {"method", "decision"}
        table.add_column(column, justify="right" if column in set(right) else "left", overflow="fold", no_wrap=keep)
    return table


def _count(value: int) -> str:
    return f"{value:,}"


def _reasons(reasons: dict[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(reasons.items(), key=lambda kv: -kv[1]))


def file_table(files: Iterable[FileVerdict]) -> Table:
    """One row a file: what was offered and what became of it. Only the first files are listed."""
    numbers = ("offered", "accepted", "dead", "duplicate")
    table = _table("Files", "feed", "file", "status", *numbers, "reasons", right=numbers)
    listed = list(files)
    for verdict in listed[:LISTED_FILES]:
        table.add_row(
            verdict.feed_id,
            escape(verdict.file),
            verdict.status,
            *(_count(getattr(verdict, n)) for n in numbers),
            _reasons(verdict.reasons),
        )
    if len(listed) > LISTED_FILES:
        table.caption = f"and {len(listed) - LISTED_FILES} more"
    return table


def feed_counts_table(journal: Journal) -> Table:
    """One row a feed: sums over every file and settled batch of events; offered = accepted + dead + duplicate.

    What a door refused before it was journalled as an event is not among them: see `letter_counts_table`.
    """
    numbers = ("deliveries", "offered", "accepted", "dead", "duplicate")
    sums: dict[str, Counter[str]] = {}
    reasons: dict[str, Counter[str]] = {}
    for record in journal.records(type=(FILE_ACCEPTED, FILE_DEAD, EVENTS_SETTLED)):
        data: dict[str, Any] = record.data
        counts = {name: int(data.get(name, 0)) for name in numbers[1:]}
        feed_id = record.subject if record.type == EVENTS_SETTLED else record.source
        sums.setdefault(feed_id, Counter()).update(deliveries=1, **counts)
        reasons.setdefault(feed_id, Counter()).update(data.get("reasons", {}))
    title = "Files and settled events by feed: offered = accepted + dead + duplicate"
    table = _table(title, "feed", *numbers, "dead, by reason", right=numbers)
    for feed_id, counts in sorted(sums.items()):
        table.add_row(feed_id, *(_count(counts[n]) for n in numbers), _reasons(dict(reasons[feed_id])))
    return table


def letter_counts_table(title: str, counts: Mapping[tuple[str, str], int]) -> Table:
    """Dead letters of every door by feed and reason, and what the reason means.

    Args:
        counts: (feed, reason) to letters, as `count_dead_letters` gives them.
    """
    table = _table(title, "feed", "reason", "letters", "meaning", right=("letters",))
    for (feed_id, reason), count in counts.items():
        table.add_row(escape(feed_id), escape(reason), _count(count), REASONS.get(reason, "a rule of the feed"))
    return table


def letter_table(title: str, letters: Iterable[DeadLetter]) -> Table:
    """One short row a letter; `dead-letters show NR` prints it whole."""
    table = _table(title, "nr", "feed", "file or id", "row", "reason", "field", "rule", "raw", right=("nr", "row"))
    for d in letters:
        texts = (_short(d.file, 23), "" if d.row_nr is None else str(d.row_nr), d.reason, d.field or "")
        raw = _short(" ".join((d.raw or "").split()), 34)
        table.add_row(str(d.nr), escape(d.feed_id), *map(escape, texts), escape(_short(d.rule or "", 44)), escape(raw))
    return table


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def frame_table(title: str, frame: pl.DataFrame, *, most: int = 60) -> Table:
    """Any small frame as a table: numbers right, floats with three digits, text as it is and never as markup."""
    right = [name for name, dtype in frame.schema.items() if dtype.is_numeric()]
    table = _table(title, *frame.columns, right=right)
    for row in frame.head(most).iter_rows():
        table.add_row(
            *(
                ""
                if v is None
                else f"{v:,.3f}"
                if isinstance(v, float)
                else f"{v:,}"
                if isinstance(v, int) and not isinstance(v, bool)
                else escape(str(v))
                for v in row
            )
        )
    if frame.height > most:
        table.caption = f"and {frame.height - most} more"
    return table


def decision_table(title: str, decisions: pl.DataFrame) -> Table:
    """Order lines with verdict and reasons; money in the currency of the data, two decimals."""
    table = _table(
        title,
        "decision",
        "sku",
        "location",
        "verdict",
        "status",
        "units",
        "cost",
        "on hand",
        "on order",
        "order up to",
        "why",
        right=("units", "cost", "on hand", "on order", "order up to"),
    )
    for row in decisions.iter_rows(named=True):
        cost = row.get("order_cost_cents")
        table.add_row(
            row["decision_id"][:12],
            escape(row["sku_id"]),
            escape(row["location_id"]),
            row["verdict"],
            row["status"],
            *("" if row.get(name) is None else _count(row[name]) for name in ("order_units",)),
            "" if cost is None else f"{cost / CENTS_PER_UNIT_OF_MONEY:,.2f}",
            *(
                "" if row.get(n) is None else _count(row[n])
                for n in ("on_hand_units", "on_order_units", "base_stock_level_units")
            ),
            escape(reasons_text(row["reasons"])),
        )
    return table


def reasons_text(reasons: object) -> str:
    """Reasons as one line: a JSON list or a list of texts or of {code, text}."""
    items = json.loads(reasons) if isinstance(reasons, str) and reasons[:1] in "[{" else reasons
    if not isinstance(items, list):
        return str(items)
    return "; ".join(str(i.get("text") or i.get("code") or i) if isinstance(i, dict) else str(i) for i in items)
