"""The recorded versions of the feature sets: what each number meant when models were first trained on it.

`features/<set>.yaml` is the newest version. `features/versions/<set>@<version>.json` holds the canonical form and id of
one that was given out; a set whose meaning changed needs a new number. Words, owners and consumers may change freely.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from replenish.contracts.evolution import version_numbers
from replenish.digests import json_digest
from replenish.errors import ContractError
from replenish.features.definitions.identity import canonical_form, differing_places, feature_set_digest
from replenish.features.definitions.model import FeatureSet
from replenish.features.definitions.reader import FEATURE_FOLDER

FEATURE_RECORDS = "versions"
_RECORD_FILE = re.compile(r"([a-z][a-z0-9_]*)@(\d+\.\d+\.\d+)\.json")
_MOST_PLACES = 4


@dataclass(frozen=True)
class RecordedFeatureSet:
    """One version that was given out; `feature_set_id` is the digest of `definition`, a canonical form."""

    name: str
    version: str
    feature_set_id: str
    definition: Mapping[str, object]


@dataclass(frozen=True)
class FeatureSetVerdict:
    """How a feature set stands to its recorded versions; refused where `refusal` says why."""

    name: str
    version: str
    feature_set_id: str
    refusal: str | None = None


def recorded_feature_sets(name: str, folder: Path = FEATURE_FOLDER) -> tuple[RecordedFeatureSet, ...]:
    """The recorded versions of a set, oldest first.

    Raises:
        ContractError: A record was altered, is misnamed or is not readable.
    """
    paths = sorted((folder / FEATURE_RECORDS).glob(f"{name}@*.json"))
    return tuple(sorted((_read_record(path) for path in paths), key=lambda each: version_numbers(each.version)))


def judge_feature_versions(
    feature_sets: Mapping[str, FeatureSet], folder: Path = FEATURE_FOLDER
) -> list[FeatureSetVerdict]:
    """One verdict a set. Refused: another meaning under a recorded number, a number not recorded, one that fell.

    Raises:
        ContractError: From `recorded_feature_sets`; or a recorded set has no file any more.
    """
    verdicts = []
    for feature_set in feature_sets.values():
        refusal = _change_refused(feature_set, folder)
        if refusal is None and not _record_path(feature_set, folder).exists():
            refusal = "is not recorded: `replenish features record`"
        verdicts.append(
            FeatureSetVerdict(feature_set.name, feature_set.version, feature_set_digest(feature_set), refusal)
        )
    for path in sorted((folder / FEATURE_RECORDS).glob("*.json")):
        if _read_record(path).name not in feature_sets:
            raise ContractError(f"{path}: its set has no file in {folder}: bring it back, or remove its records too")
    return verdicts


def record_feature_set(feature_set: FeatureSet, folder: Path = FEATURE_FOLDER) -> Path | None:
    """Keep the present meaning of a set under its version number; None where it is recorded already.

    Raises:
        ContractError: The number was recorded with another meaning, or a higher one was.
    """
    refusal = _change_refused(feature_set, folder)
    if refusal is not None:
        raise ContractError(f"{feature_set.name}@{feature_set.version} {refusal}", feature_set=feature_set.name)
    path = _record_path(feature_set, folder)
    if path.exists():
        return None
    record = {
        "feature_set": feature_set.name,
        "version": feature_set.version,
        "id": feature_set_digest(feature_set),
        "definition": canonical_form(feature_set),
    }
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _change_refused(feature_set: FeatureSet, folder: Path) -> str | None:
    """Why this meaning may not stand under its number; None where it may."""
    records = recorded_feature_sets(feature_set.name, folder)
    same = next((record for record in records if record.version == feature_set.version), None)
    if same is not None and same.feature_set_id != feature_set_digest(feature_set):
        places = list(differing_places(same.definition, canonical_form(feature_set)))
        more = f" and {len(places) - _MOST_PLACES} more" if len(places) > _MOST_PLACES else ""
        what = ", ".join(places[:_MOST_PLACES])
        return f"differs from the recorded version of its number ({what}{more}): raise `version`, then record it"
    if same is None and records and version_numbers(feature_set.version) < version_numbers(records[-1].version):
        return f"is older than the recorded {records[-1].version}: a version number only rises"
    return None


def _read_record(path: Path) -> RecordedFeatureSet:
    named = _RECORD_FILE.fullmatch(path.name)
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        record = RecordedFeatureSet(loaded["feature_set"], loaded["version"], loaded["id"], dict(loaded["definition"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ContractError(f"{path}: not a recorded feature set: bring back the recorded file") from error
    if named is None or (record.name, record.version) != named.groups():
        raise ContractError(f"{path}: holds {record.name}@{record.version}, not what its name says: rename it back")
    if json_digest(record.definition) != record.feature_set_id:
        raise ContractError(f"{path}: a recorded version was altered: bring it back, and raise `version` in the set")
    return record


def _record_path(feature_set: FeatureSet, folder: Path) -> Path:
    return folder / FEATURE_RECORDS / f"{feature_set.name}@{feature_set.version}.json"
