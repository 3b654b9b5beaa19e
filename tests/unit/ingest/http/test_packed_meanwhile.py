"""A large run is packed on a thread while it is read, where its request is the only one: nothing else differs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from replenish.stores.group_commit import GroupCommit
from replenish.stores.packed_bodies import BodyPacker
from tests.unit.ingest.http.http_door import NDJSON, cloud_event, fields, open_shop


@pytest.mark.parametrize(("n_pending", "n_begun"), [(0, 1), (1, 0)])
def test_a_lone_large_run_is_packed_on_a_thread_and_one_among_others_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_pending: int, n_begun: int
) -> None:
    begun: list[object] = []
    begin = BodyPacker.begin
    monkeypatch.setattr(BodyPacker, "begin", lambda *given: begun.append(begin(*given)) or begun[-1])
    events = [cloud_event(nr, fields(nr, note="x" * 1_000)) for nr in range(400)]
    rows = [json.dumps(event, separators=(",", ":")).encode() for event in events]
    with open_shop(tmp_path) as shop:
        with monkeypatch.context() as busy:
            if n_pending:
                busy.setattr(GroupCommit, "pending_events", n_pending)
            answer = shop.post("/events/sales", b"\n".join([*rows, b""]), NDJSON)
        assert answer.json()["accepted"] == 400
        assert len([packing for packing in begun if packing is not None]) == n_begun
        assert [json.dumps(record.data) for record in shop.journal.records()] == [
            json.dumps(event["data"]) for event in events
        ]
        assert shop.journal.check() == []
