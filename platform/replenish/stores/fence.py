"""The fence: a small file that says which epoch may write. A promoted standby raises it; older writers stop.

It lies in the root itself and, where the environment names one (`REPLENISH_FENCE`), also in a place that both regions
can reach. Whoever finds a later epoch there than its own may not write again. The shared file is made once, by
`set_up_fence`: where it is missing, something else is mounted there, and nobody may write.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from replenish.errors import Fenced
from replenish.stores.durable import fsync_path

VARIABLE = "REPLENISH_FENCE"
FIRST_EPOCH = 1


class Token(NamedTuple):
    """The epoch that may write, and whose it is: the id of a journal; empty before the first promotion."""

    epoch: int
    owner: str


class Fence:
    """One or more fence files; the latest epoch among them counts. A missing file is the first epoch.

    Args:
        paths: The files.
        must_exist: Those of them that were set up: a missing one refuses.
    """

    def __init__(self, *paths: Path, must_exist: frozenset[Path] = frozenset()) -> None:
        self.paths = paths
        self.must_exist = must_exist
        self._seen: dict[Path, tuple[tuple[int, int, int], Token]] = {}

    @property
    def token(self) -> Token:
        """The latest token.

        Raises:
            Fenced: A fence file is there and cannot be read: nobody knows who may write.
        """
        return max((self._token_at(path) for path in self.paths), default=Token(FIRST_EPOCH, ""))

    @property
    def epoch(self) -> int:
        """The epoch that may write."""
        return self.token.epoch

    def check(self, epoch: int, owner: str = "") -> None:
        """Raise Fenced where a later epoch, or another owner of the same one, was started."""
        token = self.token
        if token.epoch > epoch:
            self._keep(token)
        if token.epoch > epoch or (token.epoch == epoch and token.owner and owner and token.owner != owner):
            raise Fenced(
                "another root was promoted: this one may no longer write; ship from the new primary instead",
                own_epoch=epoch,
                epoch=token.epoch,
            )

    def raise_to(self, epoch: int, owner: str) -> None:
        """Write the token durably to every place; a second time changes nothing.

        Raises:
            Fenced: A place holds this epoch for another owner, or a later one.
        """
        for path in self.paths:
            there = self._token_at(path)
            if there == Token(epoch, owner):
                continue
            if there.epoch >= epoch:
                raise Fenced("another root was promoted first", epoch=there.epoch, fence=path)
            _write(path, Token(epoch, owner))

    def _keep(self, token: Token) -> None:
        """A later epoch that one place named is kept in all, so that it holds when that place cannot be seen."""
        for path in self.paths:
            with suppress(OSError, Fenced):
                if self._token_at(path).epoch < token.epoch:
                    _write(path, token)

    def _token_at(self, path: Path) -> Token:
        try:
            state = path.stat()
        except FileNotFoundError:
            if path.is_symlink() or not path.parent.is_dir():
                # A place that is not mounted says nothing about who was promoted there.
                words = "the place of the fence cannot be reached, so nobody knows who may write: mount or make it"
                raise Fenced(words, path=path) from None
            if path in self.must_exist:
                # An empty mount looks like a place where nobody was promoted yet.
                words = "the shared fence is not there: mount its place, or set it up with `replenish standby fence`"
                raise Fenced(words, path=path) from None
            return Token(FIRST_EPOCH, "")
        # Every token is a new file: an unchanged one need not be read again at each commit.
        mark = (state.st_ino, state.st_mtime_ns, state.st_size)
        seen = self._seen.get(path)
        if seen is None or seen[0] != mark:
            seen = self._seen[path] = (mark, _read(path))
        return seen[1]


def fence_of(root: Path) -> Fence:
    """The fence of a root: its own file, and the shared one where the environment names it."""
    shared = [Path(named)] if (named := os.environ.get(VARIABLE)) else []
    return Fence(root / "fence.json", *shared, must_exist=frozenset(shared))


def set_up_fence(path: Path) -> bool:
    """Make the shared fence with the first epoch, durably; False where there is one, which stays as it is.

    Raises:
        Fenced: Its folder is not there: it is not mounted, or has to be made first.
    """
    if Fence(path).token != Token(FIRST_EPOCH, "") or path.exists():
        return False
    _write(path, Token(FIRST_EPOCH, ""))
    return True


def _read(path: Path) -> Token:
    try:
        content = json.loads(path.read_bytes())
        return Token(int(content["epoch"]), str(content["owner"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Fenced(
            "the fence cannot be read, so nobody knows who may write: mend or restore it", path=path
        ) from error


def _write(path: Path, token: Token) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft")
    draft.write_text(json.dumps(token._asdict(), sort_keys=True) + "\n", encoding="utf-8")
    fsync_path(draft)
    draft.replace(path)
    fsync_path(path.parent)
