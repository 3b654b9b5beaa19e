"""Alerts: delivered once, to every route, with owner and runbook."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from replenish.control.alerts import Alert, AlertRoute, alert_id, deliver, read_routes
from replenish.errors import ContractError

ALERT = Alert("late-sales-S1", "sales of S1 are late", "owner", "docs/runbooks/feeds.md#sales", affected=("S1",))
BOX = AlertRoute("box", "file", "info")
HOOK = AlertRoute("hook", "webhook", "warning", "HOOK_URL")
URLS = {"HOOK_URL": "memory"}


class Inbox:
    """A webhook that fails a number of times and then takes what it gets."""

    def __init__(self, n_failures: int = 0) -> None:
        self.n_failures = n_failures
        self.n_calls = 0
        self.taken: list[dict[str, Any]] = []

    def __call__(self, url: str, body: dict[str, Any]) -> None:
        self.n_calls += 1
        if self.n_calls <= self.n_failures:
            raise OSError("down")
        self.taken.append(body)


def test_an_alert_is_delivered_once_however_often_it_is_raised(tmp_path: Path) -> None:
    inbox = Inbox()
    sent = [deliver(ALERT, tmp_path, routes=[BOX, HOOK], urls=URLS, post=inbox) for _ in range(3)]
    assert sent == [True, False, False]
    assert len(inbox.taken) == 1
    lines = (tmp_path / "alerts.jsonl").read_text().splitlines()
    assert [json.loads(line)["owner"] for line in lines] == ["owner"]
    assert json.loads((tmp_path / "late-sales-S1.json").read_text())["runbook"] == ALERT.runbook


def test_a_failed_webhook_is_tried_three_times_and_again_at_the_next_look(tmp_path: Path) -> None:
    inbox = Inbox(n_failures=3)
    assert not deliver(ALERT, tmp_path, routes=[HOOK], urls=URLS, post=inbox)
    assert inbox.n_calls == 3
    assert deliver(ALERT, tmp_path, routes=[HOOK], urls=URLS, post=inbox)
    assert len(inbox.taken) == 1


def test_a_failing_route_does_not_repeat_the_others(tmp_path: Path) -> None:
    inbox = Inbox(n_failures=100)
    for _ in range(2):
        deliver(ALERT, tmp_path, routes=[BOX, HOOK], urls=URLS, post=inbox)
    assert len((tmp_path / "alerts.jsonl").read_text().splitlines()) == 1


def test_ids_that_read_alike_as_file_names_are_two_alerts(tmp_path: Path) -> None:
    one, other = (Alert(i, "s", "o", "r") for i in ("late/S1", "late:S1"))
    assert deliver(one, tmp_path, routes=[BOX]) and deliver(other, tmp_path, routes=[BOX])


def test_a_route_gets_only_what_is_severe_enough(tmp_path: Path) -> None:
    inbox = Inbox()
    mild = Alert("x", "s", "o", "r", severity="info")
    assert not deliver(mild, tmp_path, routes=[HOOK], urls=URLS, post=inbox)


def test_an_alert_without_owner_or_runbook_cannot_be_made() -> None:
    for owner, runbook in (("", "r"), ("o", "")):
        with pytest.raises(ContractError):
            Alert("x", "s", owner, runbook)


def test_one_incident_has_one_id() -> None:
    assert alert_id("late", "sales", "S1") == alert_id("late", "sales", "S1") != alert_id("late", "sales", "S2")


def test_the_platforms_routes_are_readable_and_unknown_fields_refused(tmp_path: Path) -> None:
    assert read_routes()[0].kind == "file"
    wrong = tmp_path / "alerts.yaml"
    wrong.write_text("routes: [{name: a, kind: file, min_severity: info, url: x}]")
    with pytest.raises(ContractError):
        read_routes(wrong)
