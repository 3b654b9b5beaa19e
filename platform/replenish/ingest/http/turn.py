"""A request's place among the requests of its connection, as those who answer it see it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

TURN = "replenish.turn"
"""Name of the ASGI extension: the request's `Turn`."""


class Turn:
    """Of a request that is the only one of its connection."""

    def is_lone(self) -> bool:
        """Whether no other request of this connection is here, not even its first bytes."""
        return True

    def let_next_begin(self) -> None:
        """The next request may be read and judged while this one is judged elsewhere; it hands over behind this one."""

    async def come_up(self) -> None:
        """Wait until every request before this one has handed over."""

    async def come_first(self) -> bool:
        """Wait until every request before this one is answered; False where none was."""
        return False

    def hand_over(self) -> None:
        """All that this request does is in a queue that keeps its order, or it does nothing."""

    def end_line(self) -> None:
        """The connection ends with this request's answer."""


def turn_of(scope: MutableMapping[str, Any]) -> Turn:
    """The turn of a request, by its ASGI scope."""
    turn: Turn = scope.get("extensions", {}).get(TURN) or Turn()
    return turn
