"""The HTTP face of the twins: `GET /features/{set}/{key}`, `/health`, `/metrics`.

A key is its parts in the order of the set's entity columns, separated by commas, each percent-encoded: a comma or a
slash inside a part is `%2C` or `%2F`. Without `as_of` a set with the clock `daily` answers as of the last cut-off, one
with `instant` as of now; `units=true` adds the unit of each value.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from replenish.cli.twin_follower import TwinFollower
from replenish.cli.twin_metrics import TwinMetrics
from replenish.contracts.model import Contract
from replenish.errors import OutOfRange
from replenish.features.definitions.model import FeatureSet
from replenish.features.online.dropped_history import ForgottenHistory
from replenish.features.online.feature_twin import EntityKey, FeatureTwin, TwinAnswer
from replenish.features.online.postings import instant_of_us
from replenish.features.online.served_log import ServedLog, ServedVector, told_values
from replenish.ingest.http.answers import PROBLEM_TYPE, problem
from replenish.ingest.http.metrics import METRICS_TYPE


@dataclass(frozen=True)
class ServedSets:
    """What is served, and what stands in the log of what was served."""

    follower: TwinFollower
    contracts: Mapping[str, Contract]
    logs: Mapping[str, ServedLog]
    code_digest: str
    package_version: str


class _Refused(Exception):
    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.title = status, title


def build_twin_app(served: ServedSets, clock: Callable[[], datetime]) -> Starlette:
    """The application over twins that are followed elsewhere; it closes nothing, its owner does."""
    follower, metrics = served.follower, TwinMetrics(served.follower)

    async def features(request: Request) -> Response:
        name = request.path_params["set"]
        label = name if name in follower.twins else "unknown"
        try:
            body = _answer(served, metrics, request, clock())
        except _Refused as refused:
            metrics.count_request(label, refused.status)
            answer = problem(refused.status, refused.title, str(refused))
            return Response(answer.body, refused.status, media_type=PROBLEM_TYPE.decode())
        metrics.count_request(label, 200)
        return Response(body, media_type="application/json")

    async def health(_: Request) -> Response:
        state = _health(follower)
        return Response(
            msgspec.json.encode(state), 200 if state["status"] == "alive" else 503, None, "application/json"
        )

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.exposition(), headers={"content-type": METRICS_TYPE})

    app = Starlette(
        routes=[
            Route("/features/{set}/{key:path}", features),
            Route("/health", health),
            Route("/metrics", show_metrics),
        ]
    )
    app.router.redirect_slashes = False
    return app


def _answer(served: ServedSets, metrics: TwinMetrics, request: Request, now: datetime) -> bytes:
    name, query = request.path_params["set"], request.query_params
    twin = served.follower.twins.get(name)
    if twin is None:
        known = ", ".join(served.follower.twins)
        raise _Refused(404, "unknown_set", f"no feature set {name[:100]!r} is served here; there are: {known}")
    feature_set = twin.feature_set
    raw = request.scope["raw_path"].decode("ascii", "replace").rpartition("/")[2]
    key = _key_of(raw, feature_set, served.contracts)
    if key not in twin:
        raise _Refused(404, "unknown_key", f"nothing is known of {_told_key(feature_set, key)}")
    asked = _instant_of(query.get("as_of"), twin, now)
    began = time.perf_counter()
    try:
        answer = twin.answer(key, asked)
    except ForgottenHistory as error:
        raise _Refused(422, "forgotten_history", f"{error}: ask the offline evaluator") from error
    except OutOfRange as error:
        raise _Refused(422, "as_of_past", str(error)) from error
    metrics.observe_answer(name, time.perf_counter() - began)
    values = told_values(feature_set, answer.values)
    if served.logs[name].is_wanted():
        served.logs[name].keep(_record(served, twin, key, answer, now, dict(values)))
    body: dict[str, object] = {
        "feature_set": name,
        "version": feature_set.version,
        "feature_set_id": twin.feature_set_id,
        "key": dict(zip(feature_set.entity, key, strict=True)),
        "as_of": answer.as_of.isoformat(),
        "seq": answer.seq,
        "freshness": _freshness(served.follower, twin),
        "values": values,
    }
    if query.get("units", "").lower() in ("1", "true", "yes"):
        body["units"] = {feature.name: feature.unit for feature in feature_set.features}
    return msgspec.json.encode(body)


def _key_of(raw: str, feature_set: FeatureSet, contracts: Mapping[str, Contract]) -> EntityKey:
    parts, names = [unquote(part) for part in raw.split(",")], feature_set.entity
    if len(parts) != len(names) or not all(parts):
        raise _Refused(
            422, "bad_key", f"a key of {feature_set.name} is {','.join(f'<{n}>' for n in names)}, each percent-encoded"
        )
    contract = contracts[feature_set.sources[0].stream]
    key: list[str | int] = []
    for name, part in zip(names, parts, strict=True):
        if contract.column(name).logical_type == "integer":
            if not part.lstrip("-").isdigit():
                raise _Refused(422, "bad_key", f"{name} is a whole number, not {part[:100]!r}")
            key.append(int(part))
        else:
            key.append(part)
    return tuple(key)


def _instant_of(text: str | None, twin: FeatureTwin, now: datetime) -> datetime:
    """The instant that is asked for; `now` where none is given."""
    if text is None:
        return now
    try:
        # A plus sign in a query stands for a blank.
        asked = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError as error:
        raise _Refused(422, "bad_as_of", f"as_of is an ISO 8601 instant, not {text[:100]!r}") from error
    if asked.tzinfo is None:
        raise _Refused(422, "bad_as_of", "as_of needs an offset from UTC, as 2026-03-01T06:00:00Z")
    if asked > now:
        raise _Refused(422, "as_of_future", "as_of lies ahead: nobody knows yet what will be known")
    if twin.feature_set.clock == "daily" and not twin.is_cutoff(asked):
        raise _Refused(422, "as_of_no_cutoff", f"{twin.feature_set.name} is asked at cut-offs only; leave as_of out")
    return asked


def _freshness(follower: TwinFollower, twin: FeatureTwin) -> dict[str, object]:
    log_seq = follower.log_seq()
    known = None if twin.newest_known_us is None else instant_of_us(twin.newest_known_us).isoformat()
    return {"log_seq": log_seq, "is_current": twin.seq >= log_seq, "newest_knowledge_time": known}


def _record(
    served: ServedSets,
    twin: FeatureTwin,
    key: EntityKey,
    answer: TwinAnswer,
    now: datetime,
    values: dict[str, str | int | float | bool | None],
) -> ServedVector:
    feature_set = twin.feature_set
    streams = sorted({source.stream for source in feature_set.sources})
    versions = {f"contract {stream}": served.contracts[stream].version for stream in streams}
    return ServedVector(
        feature_set=feature_set.name,
        version=feature_set.version,
        feature_set_id=twin.feature_set_id,
        code_digest=served.code_digest,
        key=key,  # type: ignore[arg-type]
        as_of=answer.as_of,
        seq=answer.seq,
        served_at=now,
        values=values,
        versions={"replenish": served.package_version} | versions,
    )


def _health(follower: TwinFollower) -> dict[str, object]:
    log_seq = follower.log_seq()
    sets = {
        name: {"keys": len(twin), "seq": twin.seq, "stands_at": twin.stands_at.isoformat()}
        for name, twin in follower.twins.items()
    }
    status = "alive" if follower.failure is None else "failed"
    return {"status": status, "log_seq": log_seq, "behind": log_seq > follower.seq, "sets": sets}


def _told_key(feature_set: FeatureSet, key: EntityKey) -> str:
    return ", ".join(f"{name} {part}" for name, part in zip(feature_set.entity, key, strict=True))
