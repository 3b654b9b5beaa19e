"""The recorded versions of the contracts: which are live, that none was altered, and that the newest may follow them.

`contracts/<stream>.odcs.yaml` is the newest version. `contracts/versions/<stream>@<version>.odcs.yaml` are those that
senders were told of; each is live until it is moved to `versions/retired/`. `versions/SHA256SUMS` holds their digests
(`sha256sum -c` reads it), so that a version which was given out cannot be changed unnoticed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from replenish.contracts.evolution import (
    breaking_changes,
    compare_contracts,
    version_numbers,
)
from replenish.contracts.model import Contract
from replenish.contracts.reader import CONTRACT_FOLDER, read_contract, read_contracts
from replenish.contracts.version_rules import stored_contract
from replenish.digests import file_digest
from replenish.errors import ContractError

RECORDS = "versions"
RETIRED = "retired"
DIGESTS_FILE = "SHA256SUMS"
_RECORD_NAME = re.compile(r"([a-z][a-z0-9_]*)@(\d+\.\d+\.\d+)\.odcs\.yaml")

_NOT_UP_CAST = frozenset(
    {"type_change", "unit_change", "key_change", "event_time_change", "reference_change", "required_added"}
)
"""Changes after which no older event can be read as a newer one, so the two can never be live together."""


@dataclass(frozen=True)
class EvolutionFinding:
    """What `feeds check` says about one stream; `is_refused` ends it with an error."""

    stream: str
    field: str | None
    is_refused: bool
    text: str


def read_contract_versions(stream: str, folder: Path = CONTRACT_FOLDER) -> dict[str, Contract]:
    """The live versions of a stream's contract by version number, oldest first; the newest is always among them.

    Raises:
        ContractError: A recorded version was altered, is missing, is misnamed, or cannot be read as the newest one.
    """
    newest = read_contract(folder / f"{stream}.odcs.yaml")
    verify_records(folder)
    versions = {newest.version: newest}
    for path in _records(folder, stream):
        recorded = read_contract(path)
        if path.name != _record_name(recorded):
            raise ContractError(f"{path}: holds {recorded.stream}@{recorded.version}, not what its name says")
        versions.setdefault(recorded.version, recorded)
    for older in versions.values():
        blocking = [change for change in compare_contracts(older, newest) if change.kind in _NOT_UP_CAST]
        if blocking:
            raise ContractError(
                f"{stream}@{older.version} cannot be live beside {newest.version}: {blocking[0].rule}", stream=stream
            )
    return dict(sorted(versions.items(), key=lambda item: version_numbers(item[0])))


def live_contract_versions(folder: Path = CONTRACT_FOLDER) -> dict[str, dict[str, Contract]]:
    """`read_contract_versions` of every stream; raises what it raises."""
    return {stream: read_contract_versions(stream, folder) for stream in read_contracts(folder)}


def stored_contracts(folder: Path = CONTRACT_FOLDER) -> dict[str, Contract]:
    """What the tables of each stream are judged by: the newest version, as wide as any that was ever recorded."""
    verify_records(folder)
    return {
        stream: stored_contract(
            newest,
            (read_contract(p) for retired in (False, True) for p in _records(folder, stream, is_retired=retired)),
        )
        for stream, newest in read_contracts(folder).items()
    }


def verify_records(folder: Path = CONTRACT_FOLDER) -> None:
    """Hold every recorded version against its digest.

    Raises:
        ContractError: A file was altered, is gone, or was never recorded.
    """
    digests = _digests(folder)
    found = {path.name: path for path in [*_records(folder), *_records(folder, is_retired=True)]}
    for name, digest in digests.items():
        if name not in found:
            raise ContractError(f"{folder / RECORDS / name}: was recorded and is gone; retire a version by moving it")
        if file_digest(found[name]) != digest:
            raise ContractError(f"{found[name]}: a recorded version was altered; change the newest contract instead")
    unknown = sorted(set(found) - set(digests))
    if unknown:
        raise ContractError(f"{found[unknown[0]]}: not in {DIGESTS_FILE}; `replenish feeds record` writes both")


def check_evolution(folder: Path = CONTRACT_FOLDER, *, today: date) -> list[EvolutionFinding]:
    """Hold every newest contract against the recorded versions of its stream, and name fields on their way out."""
    verify_records(folder)
    findings: list[EvolutionFinding] = []
    for contract in read_contracts(folder).values():
        findings += _findings(contract, folder)
        findings += _deprecations(contract, today)
    return findings


def record_version(stream: str, folder: Path = CONTRACT_FOLDER) -> Path | None:
    """Keep the newest version of a stream as one that senders were told of; None where it is recorded already.

    Raises:
        ContractError: It may not follow the versions recorded before.
    """
    source = folder / f"{stream}.odcs.yaml"
    contract = read_contract(source)
    verify_records(folder)
    refused = [finding for finding in _findings(contract, folder) if finding.is_refused]
    if refused:
        raise ContractError(refused[0].text, stream=stream)
    path = folder / RECORDS / _record_name(contract)
    if path.exists():
        return None
    if path.name in _digests(folder):
        raise ContractError(f"{path.name}: was recorded and retired; a version number is used once")
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(source.read_bytes())
    digests = _digests(folder) | {path.name: file_digest(path)}
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    (folder / RECORDS / DIGESTS_FILE).write_text(lines, encoding="utf-8")
    return path


def _findings(contract: Contract, folder: Path) -> Iterator[EvolutionFinding]:
    live = [read_contract(path) for path in _records(folder, contract.stream)]
    recorded = live + [read_contract(path) for path in _records(folder, contract.stream, is_retired=True)]
    if not recorded:
        yield _note(contract, None, f"{contract.stream}@{contract.version} is not recorded: `replenish feeds record`")
        return
    same = next((old for old in recorded if old.version == contract.version), None)
    if same is not None:
        if same != contract:
            what = next((c.rule for c in compare_contracts(same, contract)), "other words or service levels")
            yield _refusal(contract, None, f"differs from the recorded version of its number: {what}; raise `version`")
        return
    last = max(recorded, key=lambda old: version_numbers(old.version))
    if version_numbers(contract.version) < version_numbers(last.version):
        yield _refusal(contract, None, f"is older than the recorded {last.version}; a version number only rises")
        return
    yield from _against(contract, last)
    if breaking_changes(compare_contracts(last, contract)) and last not in live:
        yield _refusal(contract, None, f"{last.version} was retired before its senders could move: bring it back")
    yield _note(contract, None, f"{contract.stream}@{contract.version} is not recorded: `replenish feeds record`")


def _against(contract: Contract, last: Contract) -> Iterator[EvolutionFinding]:
    """What changed since the last recorded version, and whether the number says so."""
    changes = compare_contracts(last, contract)
    breaking = breaking_changes(changes)
    is_major = version_numbers(contract.version)[0] > version_numbers(last.version)[0]
    is_minor = is_major or version_numbers(contract.version)[1] > version_numbers(last.version)[1]
    for change in changes:
        if change.verdict == "compatible":
            yield _note(contract, change.field, f"{change.kind}: {change.rule}")
        elif change.kind in _NOT_UP_CAST:
            words = f"{change.kind}: {change.rule}; no table can hold both: give it a new field or a new stream"
            yield _refusal(contract, change.field, words)
        elif not is_major:
            words = f"{change.kind}: {change.rule}; that needs version {version_numbers(last.version)[0] + 1}.0.0"
            yield _refusal(contract, change.field, words)
        else:
            yield _note(contract, change.field, f"{change.kind}: {change.rule}; {last.version} stays live beside it")
    if not breaking and not is_minor and any(change.kind != "editorial" for change in changes):
        yield _refusal(contract, None, f"rules changed since {last.version}: raise the minor version")


def _deprecations(contract: Contract, today: date) -> Iterator[EvolutionFinding]:
    for column in contract.columns:
        if column.deprecated is not None:
            due = "may go with the next major version" if today > column.deprecated.remove_after else "still read"
            words = f"deprecated since {column.deprecated.since}, after {column.deprecated.remove_after}: {due}"
            yield _note(contract, column.name, words)


def _note(contract: Contract, field: str | None, text: str) -> EvolutionFinding:
    return EvolutionFinding(contract.stream, field, False, text)


def _refusal(contract: Contract, field: str | None, text: str) -> EvolutionFinding:
    return EvolutionFinding(contract.stream, field, True, f"{contract.stream}@{contract.version}: {text}")


def _record_name(contract: Contract) -> str:
    return f"{contract.stream}@{contract.version}.odcs.yaml"


def _records(folder: Path, stream: str | None = None, *, is_retired: bool = False) -> list[Path]:
    kept = folder / RECORDS / RETIRED if is_retired else folder / RECORDS
    paths = [path for path in sorted(kept.glob("*.odcs.yaml")) if _RECORD_NAME.fullmatch(path.name)]
    return [path for path in paths if stream is None or path.name.partition("@")[0] == stream]


def _digests(folder: Path) -> dict[str, str]:
    path = folder / RECORDS / DIGESTS_FILE
    if not path.exists():
        return {}
    pairs = (line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return {name: digest for digest, name in pairs}
