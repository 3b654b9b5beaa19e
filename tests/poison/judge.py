"""What must hold after poisoned inputs: every row accounted for, every reason known, no value silently changed."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from tests.poison.facts import Fact

MAX_EXAMPLES = 20


@dataclass
class Tally:
    """Counts over one run; `wrong` holds what must never happen, in words."""

    door: str
    inputs: int = 0
    offered: int = 0
    accepted: int = 0
    dead: int = 0
    duplicate: int = 0
    refused: int = 0
    """Requests that were answered with an error as a whole."""
    statuses: Counter[int] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    grown_mb: float = 0.0

    def blame(self, text: str) -> None:
        if len(self.wrong) < MAX_EXAMPLES:
            self.wrong.append(text)

    def count(self, accepted: int, dead: int, duplicate: int, offered: int, what: str) -> None:
        self.offered += offered
        self.accepted += accepted
        self.dead += dead
        self.duplicate += duplicate
        if offered != accepted + dead + duplicate:
            self.blame(f"{what}: offered {offered}, accepted {accepted}, dead {dead}, duplicate {duplicate}")


def judge_rows(rows: pl.DataFrame, acceptable: dict[str, Fact], tally: Tally) -> None:
    """Blame every accepted sales row that does not say exactly what the fact of its sale id says."""
    names = ["location_id", "sold_at", "sale_id", "sku_id", "units", "revenue_cents", "knowledge_time"]
    for row in rows.select(names).iter_rows():
        fact = acceptable.get(row[2])
        expected = fact and (
            fact.location_id, fact.sold_at, fact.sale_id, fact.sku_id, fact.units, fact.revenue_cents, fact.known_at
        )  # fmt: skip
        if expected != row:
            tally.blame(f"accepted {row}, at most {expected} was offered")


def judge_reasons(reasons: Iterable[str], known: Iterable[str], tally: Tally) -> None:
    tally.reasons.update(reasons)
    for reason in set(tally.reasons) - set(known):
        tally.blame(f"unknown reason {reason}")


def resident_mb(pid: int | None = None) -> float:
    """Resident memory of a process now, in MB."""
    pages = int(Path(f"/proc/{pid or 'self'}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def run_watched(command: list[str], environment: dict[str, str]) -> tuple[int, str, str, float]:
    """(exit code, output, errors, greatest resident memory in MB) of a process run to its end."""
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complained:
        process = subprocess.Popen(command, env={**os.environ, **environment}, stdout=said, stderr=complained)
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        complained.seek(0)
        return process.returncode, said.read(), complained.read(), used.ru_maxrss / 1000
