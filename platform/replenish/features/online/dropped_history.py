"""What is remembered of dropped history: its greatest entry, and how far up a later change has put that in doubt.

Keeping everything that a late correction could bring back means keeping everything. Where a deployment sets a limit,
the state remembers one entry of what it dropped, which stays right until a posting changes that very entry. From then
on nobody can say what lies below without the ledger, and an answer that would need it is refused, never guessed.
"""

from __future__ import annotations

from typing import Any

from replenish.errors import OutOfRange


class ForgottenHistory(OutOfRange):
    """An answer needs history that the twin has dropped: ask the offline evaluator, or build the twin with more."""


class GreatestDropped:
    """The greatest of the dropped entries, as far as it is known; entries are anything that compares."""

    __slots__ = ("best", "doubt")

    def __init__(self, best: Any = None, doubt: Any = None) -> None:
        self.best = best
        self.doubt = doubt
        """Dropped entries up to this one may or may not count any more."""

    def drop(self, entry: Any) -> None:
        """An entry that counts is dropped, or comes anew from beyond all that was dropped."""
        if self.best is None or entry > self.best:
            self.best = entry

    def suspect(self, entry: Any) -> None:
        """A dropped entry, if it is one, may count no more; below the greatest one that changes nothing."""
        at_top = self.best is None or entry >= self.best
        if at_top and (self.doubt is None or entry > self.doubt):
            self.doubt = entry

    def change(self, entry: Any) -> None:
        """An entry among the dropped got another total, which nobody keeps: it counts where that is not 0."""
        is_beyond = (self.best is None or entry > self.best) and (self.doubt is None or entry > self.doubt)
        if is_beyond:
            # It did not count before, so it does now.
            self.drop(entry)
        elif entry == self.best:
            self.suspect(entry)

    def answer(self) -> Any:
        """The greatest dropped entry; None where none counts.

        Raises:
            ForgottenHistory: It is in doubt.
        """
        if self.doubt is not None and (self.best is None or self.best <= self.doubt):
            raise ForgottenHistory("a late posting changed history that was dropped")
        return self.best
