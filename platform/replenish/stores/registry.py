"""Where released models live: text files under a manifest, one champion pointer, a history that only grows.

<root>/models/<digest>/manifest.json   sha256 of every file beside it; the digest names the manifest's content
<root>/models/<digest>/*.txt           model texts, parsed by nobody before their digest was checked
<root>/champion.json                   {"champion": digest, "previous": digest | null}, replaced in one rename
<root>/promotions.jsonl                every promotion and refusal, appended and never rewritten
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from replenish.errors import DigestMismatch, StoreError

Mode = Literal["champion", "previous", "naive"]


@dataclass(frozen=True)
class StoredModel:
    """A model whose files were verified: texts by file name and what its training said about it."""

    digest: str
    files: dict[str, str]
    card: dict[str, Any]


@dataclass(frozen=True)
class Promotion:
    """One entry of the promotion history. `decision` is `promoted` or `refused`."""

    digest: str
    decision: str
    reason: str
    decided_at: str
    champion_before: str | None


class ModelRegistry:
    """Champion and challenger files under one folder; every read verifies digests before anything is parsed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def save_model(self, files: Mapping[str, str], card: Mapping[str, Any]) -> str:
        """Store texts and card, return their digest; saving the same content again changes nothing."""
        encoded = {name: text.encode() for name, text in files.items()}
        manifest = {"card": dict(card), "files": {name: _sha256(body) for name, body in sorted(encoded.items())}}
        body = json.dumps(manifest, sort_keys=True, indent=1).encode()
        digest = _sha256(body)
        target = self._folder(digest)
        if target.exists():
            return digest
        staging = target.with_name(f".{digest}.new")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        for name, content in {**encoded, "manifest.json": body}.items():
            _write_durably(staging / name, content)
        staging.rename(target)
        _sync_folder(target.parent)
        return digest

    def load_model(self, digest: str) -> StoredModel:
        """The stored model, each file checked against the manifest and the manifest against its name.

        Raises:
            StoreError: No model of this digest.
            DigestMismatch: A file is missing or is not what the manifest says.
        """
        folder = self._folder(digest)
        if not (folder / "manifest.json").is_file():
            raise StoreError("the registry has no such model", digest=digest)
        body = (folder / "manifest.json").read_bytes()
        if _sha256(body) != digest:
            raise DigestMismatch("the manifest was changed after it was written", digest=digest)
        manifest = json.loads(body)
        files: dict[str, str] = {}
        for name, expected in manifest["files"].items():
            path = folder / name
            content = path.read_bytes() if path.is_file() else b""
            if _sha256(content) != expected:
                raise DigestMismatch("a model file is not what its manifest says", digest=digest, file=name)
            files[name] = content.decode()
        return StoredModel(digest, files, manifest["card"])

    def champion(self) -> str | None:
        """Digest of the champion; None before the first promotion."""
        return self._pointer()["champion"]

    def previous_champion(self) -> str | None:
        """Digest of the champion before this one; None when there was none."""
        return self._pointer()["previous"]

    def promote(self, digest: str, *, reason: str, decided_at: str) -> Promotion:
        """Make a verified model the champion, keep the old one as `previous`; promoting the champion changes nothing.

        Args:
            digest: A model in this registry.
            reason: Why, for the history.
            decided_at: When, as text: the caller's clock or the origin, never read here.
        """
        self.load_model(digest)
        before = self.champion()
        if before == digest:
            return Promotion(digest, "promoted", "already champion", decided_at, before)
        # History first: a crash between the two leaves a record of an intent, never an unexplained champion.
        entry = self._record(Promotion(digest, "promoted", reason, decided_at, before))
        self._point_to(digest, before)
        return entry

    def refuse(self, digest: str, *, reason: str, decided_at: str) -> Promotion:
        """Record that a challenger was not promoted."""
        return self._record(Promotion(digest, "refused", reason, decided_at, self.champion()))

    def roll_back(self, *, reason: str, decided_at: str) -> Promotion:
        """Make the previous champion the champion again; StoreError when there is none."""
        previous = self.previous_champion()
        if previous is None:
            raise StoreError("there is no previous champion to go back to")
        return self.promote(previous, reason=reason, decided_at=decided_at)

    def promotions(self) -> tuple[Promotion, ...]:
        """The whole promotion history, oldest first."""
        path = self.root / "promotions.jsonl"
        if not path.exists():
            return ()
        return tuple(Promotion(**json.loads(line)) for line in path.read_bytes().split(b"\n") if line)

    def usable_model(self, as_of: str | None = None) -> tuple[StoredModel | None, Mode]:
        """The first model that verifies, champion before previous; (None, "naive") when neither does.

        Args:
            as_of: Promotions decided later do not count: a past origin is served by the champion of its day. Text that
                compares as `decided_at` does; None = the champion now.
        """
        try:
            pointer = self._pointer() if as_of is None else self._pointer_at(as_of)
        except DigestMismatch:
            return None, "naive"
        modes: tuple[tuple[str | None, Mode], ...] = (
            (pointer["champion"], "champion"),
            (pointer["previous"], "previous"),
        )
        for digest, mode in modes:
            if digest is None:
                continue
            try:
                return self.load_model(digest), mode
            except StoreError:
                # Damage is what the fallback exists for; `doctor` and the mode column report it.
                continue
        return None, "naive"

    def _pointer_at(self, as_of: str) -> dict[str, str | None]:
        """Champion and the one before it, as the promotion history tells of the decisions up to `as_of`."""
        decided = [entry for entry in self.promotions() if entry.decision == "promoted" and entry.decided_at <= as_of]
        digests = [entry.digest for entry in sorted(decided, key=lambda entry: entry.decided_at)]
        champion = digests[-1] if digests else None
        previous = next((digest for digest in reversed(digests) if digest != champion), None)
        return {"champion": champion, "previous": previous}

    def _folder(self, digest: str) -> Path:
        if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
            raise StoreError("not a model digest", digest=digest)
        return self.root / "models" / digest

    def _pointer(self) -> dict[str, str | None]:
        path = self.root / "champion.json"
        if not path.exists():
            return {"champion": None, "previous": None}
        try:
            pointer = json.loads(path.read_bytes())
            return {"champion": pointer["champion"], "previous": pointer["previous"]}
        except (ValueError, KeyError, TypeError) as error:
            raise DigestMismatch("the champion pointer is unreadable", file=str(path.name)) from error

    def _point_to(self, champion: str, previous: str | None) -> None:
        staging = self.root / ".champion.json.new"
        _write_durably(staging, json.dumps({"champion": champion, "previous": previous}, sort_keys=True).encode())
        staging.replace(self.root / "champion.json")
        _sync_folder(self.root)

    def _record(self, entry: Promotion) -> Promotion:
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "promotions.jsonl").open("a") as history:
            history.write(json.dumps(asdict(entry), sort_keys=True) + "\n")
            history.flush()
            os.fsync(history.fileno())
        return entry


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
