"""Alerts: what a person has to know, delivered once per alert id and route, with owner and runbook.

The id names the incident, not the look at it: whoever finds the same breach again makes the same id, and nothing is
sent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

import yaml

from replenish.digests import json_digest
from replenish.errors import ContractError
from replenish.stores.durable import fsync_path

ALERT_ROUTES_FILE = Path(__file__).resolve().parents[2] / "policies" / "alerts.yaml"
ALERT_LOG = "alerts.jsonl"
MAX_ATTEMPTS = 3
WEBHOOK_TIMEOUT_SECONDS = 5.0

Severity = Literal["info", "warning", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "critical")
RouteKind = Literal["file", "webhook"]
Post = Callable[[str, dict[str, Any]], None]
"""Sends a JSON object to an address; raises `OSError` where it did not arrive."""

_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Alert:
    """One incident. `affected`: items, locations or tables it reaches; `owner` and `runbook` are never empty."""

    id: str
    subject: str
    owner: str
    runbook: str
    severity: Severity = "warning"
    message: str = ""
    affected: tuple[str, ...] = ()
    raised_at: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse an alert that nobody owns or that says nowhere what to do."""
        if not (self.id and self.owner and self.runbook):
            raise ContractError("an alert has an id, an owner and a runbook", id=self.id, subject=self.subject)


@dataclass(frozen=True)
class AlertRoute:
    """One way to a person. `url_variable`: environment variable with the address of a webhook."""

    name: str
    kind: RouteKind
    min_severity: Severity
    url_variable: str | None = None


def alert_id(kind: str, *parts: str) -> str:
    """Identity of an incident from what it is about and when it began; the same parts give the same id."""
    return f"{kind}-{json_digest(list(parts))[:16]}"


def read_routes(path: Path = ALERT_ROUTES_FILE) -> tuple[AlertRoute, ...]:
    """The routes of a YAML file.

    Raises:
        ContractError: The file is malformed, a field is unknown, or a webhook names no variable.
    """
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(loaded, dict) or set(loaded) != {"routes"} or not isinstance(loaded["routes"], list):
        raise ContractError("expected one list `routes`", file=path.name)
    routes = []
    for entry in loaded["routes"]:
        fields = {"name", "kind", "min_severity"}
        if not isinstance(entry, dict) or not fields <= set(entry) <= fields | {"url_variable"}:
            raise ContractError("a route has name, kind, min_severity and may have url_variable", file=path.name)
        if entry["kind"] not in get_args(RouteKind) or entry["min_severity"] not in SEVERITIES:
            raise ContractError("unknown kind or severity", file=path.name, route=entry["name"])
        if (entry["kind"] == "webhook") != isinstance(entry.get("url_variable"), str):
            raise ContractError("a webhook, and only that, names its url_variable", file=path.name, route=entry["name"])
        routes.append(AlertRoute(**entry))
    if len({route.name for route in routes}) != len(routes):
        raise ContractError("two routes have one name", file=path.name)
    return tuple(routes)


def post_json(url: str, body: dict[str, Any]) -> None:
    """Send a JSON object over HTTP; raises `OSError` where it was not taken."""
    import httpx

    try:
        httpx.post(url, json=body, timeout=WEBHOOK_TIMEOUT_SECONDS).raise_for_status()
    except httpx.HTTPError as fault:
        raise OSError(f"webhook not delivered: {type(fault).__name__}") from fault


def deliver(
    alert: Alert,
    folder: Path,
    *,
    routes: Sequence[AlertRoute] | None = None,
    urls: Mapping[str, str] | None = None,
    post: Post = post_json,
) -> bool:
    """Bring an alert to every route that has not had it; True where any route got it now.

    Args:
        alert: What happened.
        folder: The deployment's alerts folder; it also remembers what was delivered, in `delivered/`.
        routes: None = the policy's.
        urls: Addresses by `url_variable`; a webhook without one is skipped and tried again next time.
        post: How a webhook is called; up to three attempts, then the alert waits for the next call.
    """
    delivered = False
    for route in read_routes() if routes is None else routes:
        mark = folder / "delivered" / f"{_file_name(alert.id)}.{_file_name(route.name)}"
        if SEVERITIES.index(alert.severity) < SEVERITIES.index(route.min_severity) or mark.exists():
            continue
        if route.kind == "file":
            _write_files(alert, folder)
        elif not _post_with_retries(alert, (urls or {}).get(cast(str, route.url_variable)), post):
            continue
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
        fsync_path(mark.parent)
        delivered = True
    return delivered


def alert_body(alert: Alert) -> dict[str, Any]:
    """The alert as a JSON object."""
    instant = None if alert.raised_at is None else alert.raised_at.isoformat()
    return {**asdict(alert), "affected": list(alert.affected), "raised_at": instant}


def _write_files(alert: Alert, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    line = json.dumps(alert_body(alert), sort_keys=True, ensure_ascii=False)
    single = folder / f"{_file_name(alert.id)}.json"
    if not single.exists():
        draft = single.with_suffix(".draft")
        draft.write_text(line + "\n", encoding="utf-8")
        fsync_path(draft)
        draft.replace(single)
        with (folder / ALERT_LOG).open("a", encoding="utf-8") as log:
            log.write(line + "\n")


def _post_with_retries(alert: Alert, url: str | None, post: Post) -> bool:
    if url is None:
        return False
    for _ in range(MAX_ATTEMPTS):
        try:
            post(url, alert_body(alert))
        except OSError:
            continue
        return True
    return False


def _file_name(text: str) -> str:
    # Distinct ids that read alike once cleaned would share a mark, and one alert would be lost.
    cleaned = _FILE_NAME.sub("-", text)[:80]
    return cleaned if cleaned == text else f"{cleaned}-{json_digest(text)[:8]}"
