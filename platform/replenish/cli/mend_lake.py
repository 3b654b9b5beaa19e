"""Mending of the lake: what is damaged is set aside, what the log can give again is made again.

Bronze, silver and gold come from the log. Features, forecasts and decisions come from gold and a trained model: where
they are damaged they are set aside too, and a person is told which command makes them again.
"""

from __future__ import annotations

from collections.abc import Callable

from replenish.cli.deployment import Deployment
from replenish.errors import ReplenishError, StoreError
from replenish.history.bronze import append_bronze, bronze_table
from replenish.history.log_checks import check_bronze_ahead, check_bronze_rows
from replenish.history.silver import silver_table, update_silver
from replenish.stores.doctor.delta_log import list_log
from replenish.stores.doctor.file_digests import forget_commits
from replenish.stores.doctor.findings import Finding, Treatment
from replenish.stores.doctor.lake_checks import COMMIT_KINDS, check_table, drop_table, lake_tables, set_aside
from replenish.stores.doctor.quarantine import Quarantine
from replenish.stores.locks import hold

WAIT_SECONDS = 30.0
MAX_ROUNDS = 5
"""Looks at one table: behind a commit that was set aside another fault may show."""
FALSE_VALUES = ("altered_file", "altered_commit", "empty_commit", "lost_commits", "rows_differ", "content_differs")
"""Kinds of damage that a reader does not notice: what was made from the table may be wrong as well."""
FOUND_BY_THE_LOG = ("rows_differ", "content_differs", "ledger_differs")
"""Kinds that show in comparison with the log only."""
RESTORE_FIRST = (
    "nothing may be taken in before: new entries would take the places of the lost ones. Take them from a standby with "
    "`replenish doctor --from FOLDER`; where none is left, `replenish rebuild` makes the tables fit the log"
)

BuildGold = Callable[[], None]


def examine_lake(deployment: Deployment, *, with_digests: bool, with_rows: bool = True) -> list[Finding]:
    """All findings in the lake; changes nothing but the record of digests, which takes in what is new and sound."""
    root, findings = deployment.layout.lake, []
    for table in lake_tables(root):
        findings += check_table(root, table, with_digests=with_digests).findings
    damaged = {finding.subject for finding in findings}
    if not deployment.layout.journal.is_file():
        return findings
    log, lake = deployment.journal, deployment.lake
    for stream in deployment.contracts:
        if bronze_table(stream) not in damaged:
            ahead = check_bronze_ahead(stream, log, lake)
            findings += ahead or (check_bronze_rows(stream, log, lake) if with_rows else [])
    return findings


class LakeMender:
    """Treats the findings of one visit; `treatments` grows as it goes."""

    def __init__(self, deployment: Deployment, quarantine: Quarantine, build_gold: BuildGold) -> None:
        self._deployment = deployment
        self._root = deployment.layout.lake
        self._quarantine = quarantine
        self._build_gold = build_gold
        self._dropped: set[str] = set()
        self._behind: set[str] = set()
        self._done: list[tuple[Finding, str]] = []

    def mend(self, findings: list[Finding]) -> list[Treatment]:
        """Set aside, rebuild, and look again; a finding counts as mended when its table is found whole after it."""
        for_people = [finding for finding in findings if finding.remedy == "person"]
        findings = [finding for finding in findings if finding not in for_people]
        for table in sorted({finding.subject for finding in findings}):
            with hold(self._deployment.lake.lock_path(table), f"mend {table}", wait_seconds=WAIT_SECONDS):
                self._treat_table(table, self._still_found([f for f in findings if f.subject == table]))
        self._drop_what_was_made_from_false_values()
        faults = self._bring_up_to_date()
        left = [Treatment(finding, False, "nothing", RESTORE_FIRST) for finding in for_people]
        return left + [self._judge(finding, done, faults) for finding, done in self._done]

    def _still_found(self, findings: list[Finding]) -> list[Finding]:
        """Findings that a second look confirms, now that nobody writes the table: the first may have met a writer."""
        table = findings[0].subject
        if not (self._root / table / "_delta_log").is_dir():
            return findings
        sound = not check_table(self._root, table).findings
        gone = [finding for finding in findings if sound and finding.kind not in FOUND_BY_THE_LOG]
        for finding in gone:
            self._note(finding, "nothing: it was whole at a second look")
        return [finding for finding in findings if finding not in gone]

    def _treat_table(self, table: str, findings: list[Finding]) -> None:
        """Round by round: what was found, then what shows once that is out of the way."""
        for _ in range(MAX_ROUNDS):
            if not findings:
                return
            if any(finding.remedy == "rebuild" for finding in findings):
                self._drop(table, findings)
                return
            for finding in findings:
                if finding.remedy == "set_aside":
                    self._note(finding, set_aside(self._root, finding, self._quarantine))
                else:
                    forget_commits(self._root, table, list_log(self._root / table).newest + 1)
                    self._note(finding, "to be brought up to date from the log")
                if finding.kind in (*COMMIT_KINDS, "lost_commits"):
                    self._behind.add(table)
            findings = check_table(self._root, table).findings
        self._drop(table, findings)

    def _drop(self, table: str, findings: list[Finding]) -> None:
        drop_table(self._root, table, self._quarantine, findings[0].meaning)
        self._dropped.add(table)
        for finding in findings:
            self._note(finding, "set the whole table aside")

    def _drop_what_was_made_from_false_values(self) -> None:
        false = {finding.subject for finding, _ in self._done if finding.kind in FALSE_VALUES}
        for stream in self._deployment.contracts:
            table = silver_table(stream)
            if bronze_table(stream) in false & self._dropped and table not in self._dropped:
                with hold(self._deployment.lake.lock_path(table), f"mend {table}", wait_seconds=WAIT_SECONDS):
                    if (self._root / table).is_dir():
                        drop_table(self._root, table, self._quarantine, "made from a damaged bronze table")
                self._dropped.add(table)

    def _bring_up_to_date(self) -> dict[str, str]:
        """Rebuild from the log whatever is dropped or behind; faults by table."""
        faults: dict[str, str] = {}
        touched = self._dropped | self._behind
        deployment = self._deployment
        for stream, contract in deployment.contracts.items():
            tables = {bronze_table(stream), silver_table(stream)}
            if not tables & touched:
                continue
            try:
                append_bronze(stream, contract, deployment.journal, deployment.layout, deployment.lake)
                update_silver(contract, deployment.dataset, deployment.lake)
            except ReplenishError as fault:
                faults |= dict.fromkeys(tables, _brief(fault))
        had_gold = any(table.startswith("gold/") for table in {*lake_tables(self._root), *touched})
        if had_gold and any(table.split("/")[0] in ("bronze", "silver", "gold") for table in touched):
            try:
                self._build_gold()
            except StoreError as fault:
                faults |= {table: _brief(fault) for table in touched if table.startswith("gold/")}
        return faults

    def _judge(self, finding: Finding, done: str, faults: dict[str, str]) -> Treatment:
        table = finding.subject
        if table in faults:
            advice = f"the log could not give it again ({faults[table]}); mend that, then run `replenish doctor` again"
            return Treatment(finding, False, done, advice)
        if table.split("/")[0] not in ("bronze", "silver", "gold") and table in self._dropped | self._behind:
            return Treatment(finding, False, done, _how_to_make_again(table))
        left = check_table(self._root, table).findings
        if left:
            return Treatment(finding, False, done, f"still found: {left[0].detail}; keep the folder and ask for help")
        if table in self._dropped | self._behind:
            done += ", made again from the log"
        advice = ""
        if finding.kind in FALSE_VALUES and table.startswith(("bronze/", "silver/", "gold/")):
            advice = "forecasts and decisions made since the last clean look may rest on it: run their origins again"
        return Treatment(finding, True, done, advice)

    def _note(self, finding: Finding, done: str) -> None:
        self._done.append((finding, done))


def _how_to_make_again(table: str) -> str:
    if table.startswith("features/"):
        return f"make it again: `replenish run --select {table.removeprefix('features/')}`"
    return f"rows of {table} are set aside; `replenish run --origin DATE` makes those of an origin again"


def _brief(fault: Exception) -> str:
    """First and last line: the output of dbt is long, and its end says what was wrong."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys([lines[0][:200], lines[-1][:200]])) if lines else type(fault).__name__
