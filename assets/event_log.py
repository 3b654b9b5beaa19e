"""Ingest: what the sources deliver (`feed_<stream>`) and the one log it enters through (`event_log`).

`feed_<stream>` are external assets: Dagster never runs them, the file door reports them whenever a file brought
accepted rows. Dagster judges freshness by the last materialization, so theirs, and only theirs, follows the arrival of
data: a daily run keeps every other asset green although a feed has stopped.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import dagster as dg
import polars as pl

from assets.gate import as_markdown
from assets.settings import contract_freshness, stage_settings
from replenish.contracts.dataset import Dataset
from replenish.contracts.model import Contract
from replenish.contracts.table_schema import table_owners, table_tags
from replenish.ingest.door import ingest_folder
from replenish.ingest.events.event_feeds import event_feeds
from replenish.ingest.settle import settle_events
from replenish.ingest.verdict import FileVerdict, IngestReport
from replenish.stores.journal import Journal
from replenish.stores.journal_entry import DeadLetter
from resources.clock import ClockResource
from resources.deployment import DeploymentResource
from resources.journal import JournalResource

CONSERVATION_CHECK = "offered_is_accepted_dead_or_duplicate"
N_FILES_SHOWN = 60
"""Files and dead letters listed in the UI; all of them are in the journal."""
N_DEAD_SHOWN = 40


def feed_key(stream: str) -> str:
    """Key of the external asset that stands for the deliveries of a stream."""
    return f"feed_{stream}"


def build_feeds(contracts: dict[str, Contract]) -> list[dg.AssetSpec]:
    """The external assets: one per stream, with the SLA of its contract as freshness policy."""
    return [
        dg.AssetSpec(
            feed_key(contract.stream),
            group_name="ingest",
            description=f"Deliveries of `{contract.stream}`, whatever their door. {contract.description}",
            owners=list(table_owners(contract)),
            kinds={"source"},
            tags={"stage": "ingest", **table_tags(contract)},
            freshness_policy=contract_freshness(contract),
            metadata={"runbook": contract.runbook, "contract": f"{contract.stream}@{contract.version}"},
        )
        for contract in contracts.values()
    ]


def build_event_log(contracts: dict[str, Contract]) -> dg.AssetsDefinition:
    """The asset `event_log`: every offered file through the contract gate, into the journal."""

    @dg.asset(
        deps=[feed_key(stream) for stream in contracts],
        description="The journal: offered files and single events, dead letters with reasons; the same twice is one.",
        check_specs=[
            dg.AssetCheckSpec(
                CONSERVATION_CHECK,
                asset="event_log",
                blocking=True,
                description="Every offered row is accepted, dead-lettered or a duplicate; none is lost.",
            )
        ],
        **stage_settings("ingest", tier="gold", kinds={"sqlite", "parquet"}),
    )
    def event_log(
        context: dg.AssetExecutionContext,
        deployment: DeploymentResource,
        journal: JournalResource,
        clock: ClockResource,
    ) -> Iterator[Any]:
        dataset, contracts, layout = deployment.dataset(), deployment.contracts(), deployment.layout
        log = journal.open()
        report = ingest_folder(layout.drop, dataset, contracts, log, layout, now=clock.now())
        versions = deployment.versions()
        settled = settle_events(dataset, contracts, log, layout, now=clock.now(), versions=versions)
        report = replace(report, files=report.files + settled.batches)
        for delivery in deliveries(report.files, dataset, contracts):
            context.log_event(delivery)
        yield dg.MaterializeResult(
            metadata=event_log_metadata(report, log),
            data_version=dg.DataVersion(str(log.next_seq() - 1)),
            check_results=[conservation_result(report.files)],
        )

    return event_log


def deliveries(
    files: Sequence[FileVerdict], dataset: Dataset, contracts: dict[str, Contract]
) -> Iterator[dg.AssetMaterialization]:
    """One materialization of `feed_<stream>` per stream that new accepted rows arrived for, through whatever door."""
    feeds = {feed.feed_id: feed for feed in dataset.feeds} | event_feeds(dataset, contracts)
    streams = {feed_id: feed.stream for feed_id, feed in feeds.items()}
    rows: dict[str, int] = {}
    for file in files:
        if file.status == "accepted" and file.accepted:
            rows[streams[file.feed_id]] = rows.get(streams[file.feed_id], 0) + file.accepted
    for stream, n_rows in sorted(rows.items()):
        yield dg.AssetMaterialization(feed_key(stream), metadata={"dagster/row_count": n_rows})


def conservation_result(files: Sequence[FileVerdict]) -> dg.AssetCheckResult:
    """Whether offered = accepted + dead + duplicate in every file that was read and batch of events settled."""
    read = [file for file in files if file.status != "known"]
    lost = [file for file in read if file.offered != file.accepted + file.dead + file.duplicate]
    return dg.AssetCheckResult(
        passed=not lost,
        check_name=CONSERVATION_CHECK,
        metadata={
            "files_read": len(read),
            "offered": sum(file.offered for file in read),
            "accepted": sum(file.accepted for file in read),
            "dead": sum(file.dead for file in read),
            "duplicate": sum(file.duplicate for file in read),
            "files_with_a_gap": ", ".join(file.file for file in lost),
        },
    )


def event_log_metadata(report: IngestReport, log: Journal) -> dict[str, Any]:
    """Rows per feed, the newest files, dead letters by reason and the newest of them in the raw."""
    new = [file for file in report.files if file.status != "known"]
    letters = [
        {
            "file": d.file,
            "row": d.row_nr,
            "reason": d.reason,
            "field": d.field,
            "rule": d.rule,
            "raw": (d.raw or "")[:120],
        }
        for d in islice(_newest_dead(report.files, log), N_DEAD_SHOWN)
    ]
    counts = [{"feed": feed, "reason": reason, "n": n} for (feed, reason), n in log.count_dead_letters().items()]
    return {
        "dagster/row_count": log.next_seq() - 1,
        "files_new": len(new),
        "files_known": len(report.files) - len(new),
        "files_without_a_feed": ", ".join(report.unmatched),
        "rows_per_feed": as_markdown(_per_feed(report.files)),
        "files": as_markdown(_file_table((new or report.files)[-N_FILES_SHOWN:])),
        "dead_letters_by_reason": as_markdown(pl.DataFrame(counts)),
        "newest_dead_letters": as_markdown(pl.DataFrame(letters, infer_schema_length=None)),
    }


def _newest_dead(files: Sequence[FileVerdict], log: Journal) -> Iterator[DeadLetter]:
    for file in reversed(files):
        if file.seq is not None and (file.dead or file.status == "dead"):
            yield from log.dead_letters(seq=file.seq)


def _file_table(files: Sequence[FileVerdict]) -> pl.DataFrame:
    return pl.DataFrame(
        [
            {
                "feed": file.feed_id,
                "file": file.file,
                "status": file.status,
                "offered": file.offered,
                "accepted": file.accepted,
                "dead": file.dead,
                "duplicate": file.duplicate,
                "reasons": file.fault or ", ".join(f"{reason} {n}" for reason, n in sorted(file.reasons.items())),
            }
            for file in files
        ]
    )


def _per_feed(files: Sequence[FileVerdict]) -> pl.DataFrame:
    table = _file_table(files)
    if not table.height:
        return table
    return (
        table.group_by("feed")
        .agg(pl.len().alias("files"), pl.col("offered", "accepted", "dead", "duplicate").sum())
        .sort("feed")
    )
