"""`replenish dead-letters`: what was refused, why, and getting it in after the cause is mended."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import polars as pl
import typer

from replenish.cli.deployment import Deployment, default_root, now_utc, open_deployment
from replenish.cli.tables import frame_table, letter_counts_table, letter_table, open_console
from replenish.errors import NotApplicable, OutOfRange
from replenish.ingest.dead_letters import Redrive, discard_letters
from replenish.ingest.door import INGEST_LOCK, LOCK_WAIT_SECONDS
from replenish.ingest.letter_headers import connect_headers
from replenish.ingest.reasons import REASONS
from replenish.stores.group_commit import GroupCommit
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import DeadLetter
from replenish.stores.locks import hold

group = typer.Typer(help="Dead letters: list, show, redrive, discard.", no_args_is_help=True)

Root = Annotated[Path | None, typer.Option(help="Root of the deployment.")]
FeedName = Annotated[str | None, typer.Option(help="Only of this feed.")]
Reason = Annotated[str | None, typer.Option(help="Only with this reason code.")]
Numbers = Annotated[list[int] | None, typer.Option("--nr", help="Number of a letter; may be given several times.")]


@group.command("list")
def list_letters(
    feed: FeedName = None,
    reason: Reason = None,
    status: Annotated[str, typer.Option(help="open, redriven, discarded or all.")] = "open",
    limit: Annotated[int, typer.Option(help="Letters to print.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
    root: Root = None,
) -> None:
    """Dead letters, oldest first, and how many there are by feed and reason."""
    with _opened(root) as (_, journal):
        wanted = None if status == "all" else status
        letters = journal.dead_letters(feed, reason=reason, status=wanted, limit=limit)
        counts = journal.count_dead_letters(wanted)
    if as_json:
        for letter in letters:
            print(json.dumps(asdict(letter), default=str, ensure_ascii=False))
        return
    console = open_console()
    if not counts:
        console.print("no dead letters" if wanted is None else f"no {status} dead letters")
        return
    console.print(letter_counts_table(f"Dead letters, {status}", counts))
    console.print(letter_table("Letters, oldest first", letters))


@group.command("show")
def show_letter(
    nr: Annotated[int, typer.Argument(help="Number of the letter.")],
    headers: Annotated[bool, typer.Option("--headers", help="Its origin in Kafka Connect's header names.")] = False,
    root: Root = None,
) -> None:
    """One letter whole, as JSON: where it came from, which rule it broke, and what it said."""
    with _opened(root) as (_, journal):
        letter = _letter(journal, nr)
        record = next(journal.records((letter.seq or 1) - 1, up_to_seq=letter.seq))
    shown: dict[str, object] = {**asdict(letter), "source": record.source, "meaning": REASONS.get(letter.reason)}
    if headers:
        shown["headers"] = connect_headers(letter, record)
    print(json.dumps(shown, default=str, ensure_ascii=False, indent=1))


@group.command("redrive")
def redrive_letters(nr: Numbers = None, feed: FeedName = None, reason: Reason = None, root: Root = None) -> None:
    """Judge open letters again under today's contracts and feeds; what passes enters once, however often you try."""
    with _opened(root) as (deployment, journal), _alone(deployment, "redrive dead letters"):
        letters = _chosen(journal, nr, feed, reason)
        writer = GroupCommit(journal, now_utc)
        try:
            redrive = Redrive(deployment.dataset, deployment.contracts, journal, deployment.layout, writer, now_utc())
            outcomes = redrive.redrive(letters)
        finally:
            writer.close()
    counts = Counter((outcome.result, outcome.why) for outcome in outcomes)
    rows = [(result, why, count) for (result, why), count in sorted(counts.items())]
    frame = pl.DataFrame(rows, schema=["result", "why", "letters"], orient="row", strict=False)
    open_console().print(frame_table("Redriven", frame))
    if any(outcome.result == "accepted" for outcome in outcomes):
        open_console().print("accepted ones become facts with the next run, or by `replenish ingest`", soft_wrap=True)
    if any(not outcome.is_closed for outcome in outcomes):
        raise typer.Exit(1)


@group.command("discard")
def discard(
    why: Annotated[str, typer.Option("--reason", help="Why they are given up; kept in the log.")],
    nr: Numbers = None,
    feed: FeedName = None,
    code: Annotated[str | None, typer.Option("--code", help="Only with this reason code.")] = None,
    root: Root = None,
) -> None:
    """Give open letters up. They stay in the log, with the reason."""
    with _opened(root) as (deployment, journal), _alone(deployment, "discard dead letters"):
        count = discard_letters(journal, _chosen(journal, nr, feed, code), why, now_utc())
    open_console().print(f"discarded {count} {'letter' if count == 1 else 'letters'}", highlight=False)


@contextmanager
def _opened(root: Path | None) -> Iterator[tuple[Deployment, Journal]]:
    deployment = open_deployment(root or default_root())
    journal = deployment.journal
    try:
        yield deployment, journal
    finally:
        journal.close()


def _alone(deployment: Deployment, purpose: str) -> AbstractContextManager[int]:
    """Letters are chosen under the lock: what another one redrives or discards meanwhile is not open any more."""
    return hold(deployment.layout.locks / INGEST_LOCK, purpose, wait_seconds=LOCK_WAIT_SECONDS)


def _chosen(journal: Journal, nrs: list[int] | None, feed: str | None, reason: str | None) -> list[DeadLetter]:
    if nrs:
        return [_letter(journal, nr) for nr in nrs]
    if feed is None and reason is None:
        raise OutOfRange("say which letters: --nr, --feed or a reason code")
    return journal.dead_letters(feed, reason=reason, status="open")


def _letter(journal: Journal, nr: int) -> DeadLetter:
    letter = journal.dead_letter(nr)
    if letter is None:
        raise NotApplicable("no dead letter has this number; `replenish dead-letters list` shows them", nr=nr)
    return letter
