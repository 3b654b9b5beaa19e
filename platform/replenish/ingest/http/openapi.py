"""The OpenAPI 3.1 document of the HTTP door, made from the contracts that judge its events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from replenish.contracts.model import Column, Contract
from replenish.ingest.http.limits import HttpLimits
from replenish.ingest.http.request_rows import CLOUD_EVENT, CLOUD_EVENT_BATCH, JSON, LINES
from replenish.ingest.reasons import REASONS
from replenish.stores.journal_entry import EVENT_DELETE, EVENT_UPSERT

Schema = dict[str, Any]

INT64 = {"minimum": -(2**63), "maximum": 2**63 - 1}
_TYPES: dict[str, Schema] = {
    "string": {"type": "string"},
    "integer": {"type": "integer", "format": "int64"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "timestamp": {"type": "string", "format": "date-time"},
    "date": {"type": "string", "format": "date"},
}
_REFUSALS = {
    400: "The body as a whole cannot be read; it is kept as a dead letter.",
    401: "No proof of the sender, or a wrong one.",
    403: "The sender may not write this source or feed; nothing was accepted.",
    408: "The body came too slowly.",
    413: "Too many bytes or rows, before or after inflating.",
    415: "A media type, encoding or character set that is not taken.",
    429: "No room at this moment: send the same events again after Retry-After.",
    503: "The journal cannot be written.",
    507: "The disk is full: send the same events again after Retry-After.",
}
_ROW = {
    200: "Every event is durable: accepted, or known before.",
    207: "Some events are refused; each verdict says why. All verdicts are durable.",
    409: "The one event's id stands for another event (`id_conflict`); kept as a dead letter.",
    422: "The one event is refused; kept as a dead letter.",
}


def openapi_document(contracts: Mapping[str, Contract], feeds: tuple[str, ...], limits: HttpLimits) -> Schema:
    """The document, as plain values."""
    streams = {f"{contract.stream}_fields": stream_schema(contract) for contract in contracts.values()}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "replenish: the HTTP door",
            "version": "1.0.0",
            "description": "Events in, durable verdicts out: an event is acknowledged once it is on disk, not before. "
            "Sending the same id and body again is safe: the first receipt is given again. "
            f"A request may have {limits.body_bytes} bytes, inflate (gzip) to {limits.inflated_bytes} bytes and to "
            f"{limits.inflate_ratio} times its size, and hold {limits.rows} events. With `Prefer: return=minimal` "
            "plainly accepted rows are counted and not listed.",
        },
        "paths": {
            "/events": {"post": _post_events(feeds)},
            "/events/{stream}": {"post": _post_rows(contracts)},
            "/debezium/{feed}": {"post": _post_changes(feeds)},
            "/healthz": _get("The process lives.", JSON, {"type": "object"}),
            "/readyz": _get("The journal takes events.", JSON, {"type": "object"}, 503),
            "/metrics": _get("Counters as OpenMetrics text.", "application/openmetrics-text", {"type": "string"}),
            "/openapi.json": _get("This document.", JSON, {"type": "object"}),
        },
        "components": {
            "schemas": {
                **streams,
                "CloudEvent": _cloud_event(feeds, list(streams)),
                "RequestVerdict": _verdict_schema(),
                "Problem": _problem_schema(),
            },
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "webhook": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "webhook-signature",
                    "description": "Standard Webhooks: HMAC-SHA256 of `webhook-id.webhook-timestamp.body`, five "
                    "minutes of tolerance.",
                },
            },
        },
    }


def stream_schema(contract: Contract) -> Schema:
    """A contract's fields as JSON Schema. Unknown fields are kept, so they are allowed."""
    return {
        "type": "object",
        "description": f"{contract.description} (contract {contract.version})",
        "required": [column.name for column in contract.columns if column.is_required],
        "properties": {column.name: _column_schema(column) for column in contract.columns},
    }


def _column_schema(column: Column) -> Schema:
    schema = {**_TYPES[column.logical_type], "description": column.description}
    if column.logical_type == "integer":
        schema |= INT64
    if column.minimum is not None:
        schema["minimum"] = column.minimum
    if column.maximum is not None:
        schema["maximum"] = column.maximum
    if column.pattern is not None:
        schema["pattern"] = f"^(?:{column.pattern})$"
    if column.allowed:
        schema["enum"] = list(column.allowed)
    return schema if column.is_required else {"anyOf": [schema, {"type": "null"}], "description": column.description}


def _cloud_event(feeds: tuple[str, ...], streams: list[str]) -> Schema:
    return {
        "type": "object",
        "description": "A CloudEvent 1.0. `subject` names the feed, `data` holds the source's fields.",
        "required": ["specversion", "id", "source", "type", "subject", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": {"type": "string", "minLength": 1, "maxLength": 512},
            "source": {"type": "string", "minLength": 1, "maxLength": 512},
            "type": {"enum": [EVENT_UPSERT, EVENT_DELETE]},
            "subject": {"enum": list(feeds)},
            "time": {"type": "string", "format": "date-time"},
            "datacontenttype": {"const": "application/json"},
            "traceparent": {"type": "string"},
            "data": {"anyOf": [{"$ref": f"#/components/schemas/{name}"} for name in streams]},
        },
    }


def _post_events(feeds: tuple[str, ...]) -> Schema:
    event = {"$ref": "#/components/schemas/CloudEvent"}
    return {
        "operationId": "postEvents",
        "summary": "CloudEvents 1.0: structured, batch or one a line; binary mode with `ce-` headers.",
        "description": f"Feeds: {', '.join(feeds)}.",
        "parameters": [_prefer()],
        "requestBody": {
            "required": True,
            "content": {
                CLOUD_EVENT: {"schema": event},
                CLOUD_EVENT_BATCH: {"schema": {"type": "array", "minItems": 1, "items": event}},
                LINES[0]: {"schema": {"type": "string", "description": "One CloudEvent (structured) a line."}},
                JSON: {"schema": {"description": "Binary mode: `data`. Else as structured or batch."}},
            },
        },
        "security": [{"bearer": []}, {"webhook": []}, {}],
        "responses": _responses(),
    }


def _post_rows(contracts: Mapping[str, Contract]) -> Schema:
    rows = [
        {
            "allOf": [
                {"$ref": f"#/components/schemas/{stream}_fields"},
                {"type": "object", "required": ["id"], "properties": {"id": {"type": "string", "minLength": 1}}},
            ]
        }
        for stream in contracts
    ]
    row = {"anyOf": [*rows, {"$ref": "#/components/schemas/CloudEvent"}]}
    text = (
        "One JSON object a line: a CloudEvent (of which only `id` and `data` are needed here), or a plain row: the "
        "contract's fields and beside them `id`. A plain row has no member called `data` or `specversion`."
    )
    return {
        "operationId": "postRows",
        "summary": "Rows of one stream: plain, or as CloudEvents.",
        "parameters": [
            {"name": "stream", "in": "path", "required": True, "schema": {"enum": list(contracts)}},
            {
                "name": "source",
                "in": "query",
                "description": "What rows without a `source` are filed under, where senders prove nothing.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 512},
            },
            _prefer(),
        ],
        "requestBody": {
            "required": True,
            "content": {
                LINES[0]: {"schema": {"type": "string", "description": text}},
                JSON: {"schema": {"anyOf": [row, {"type": "array", "minItems": 1, "items": row}]}},
            },
        },
        "security": [{"bearer": []}, {"webhook": []}, {}],
        "responses": _responses(404),
    }


def _post_changes(feeds: tuple[str, ...]) -> Schema:
    message = {
        "type": "object",
        "description": "A Debezium change record, with or without its schema.",
        "properties": {"op": {"enum": ["c", "r", "u", "d", "t"]}, "before": {}, "after": {}, "source": {}},
    }
    return {
        "operationId": "postChanges",
        "summary": "Change records of Debezium, for one feed; deletes take facts back.",
        "parameters": [{"name": "feed", "in": "path", "required": True, "schema": {"enum": list(feeds)}}, _prefer()],
        "requestBody": {
            "required": True,
            "content": {
                LINES[0]: {"schema": {"type": "string", "description": "One change record a line."}},
                JSON: {"schema": {"anyOf": [message, {"type": "array", "minItems": 1, "items": message}]}},
            },
        },
        "security": [{"bearer": []}, {"webhook": []}, {}],
        "responses": _responses(404),
    }


def _prefer() -> Schema:
    return {
        "name": "prefer",
        "in": "header",
        "description": "`return=minimal`: plainly accepted rows are only counted.",
        "schema": {"enum": ["return=minimal", "return=representation"]},
    }


def _responses(*further: int) -> Schema:
    verdict = {JSON: {"schema": {"$ref": "#/components/schemas/RequestVerdict"}}}
    refusals = _REFUSALS | dict.fromkeys(further, "There is no such stream.")
    return {
        **{str(status): {"description": what, "content": verdict} for status, what in _ROW.items()},
        **{str(status): _problem(what) for status, what in refusals.items()},
    }


def _problem(what: str) -> Schema:
    return {
        "description": what,
        "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }


def _get(what: str, media_type: str, schema: Schema, *refusals: int) -> Schema:
    responses = {"200": {"description": what, "content": {media_type: {"schema": schema}}}}
    return {"get": {"summary": what, "responses": responses | {str(s): _problem(_REFUSALS[s]) for s in refusals}}}


def _verdict_schema() -> Schema:
    count, seq = {"type": "integer", "minimum": 0}, {"type": ["integer", "null"], "minimum": 1}
    counts = dict.fromkeys(("offered", "accepted", "dead", "duplicate"), count)
    row = {
        "type": "object",
        "required": ["row", "id", "outcome", "seq"],
        "properties": {
            "row": {"type": "integer", "minimum": 1},
            "id": {"type": "string"},
            "outcome": {"enum": ["accepted", "dead", "duplicate", "conflict"]},
            "seq": {"type": "integer", "minimum": 1, "description": "Place in the log."},
            "reason": {"enum": sorted(REASONS)},
            "field": {"type": "string"},
            "rule": {"type": "string"},
        },
    }
    return {
        "type": "object",
        "description": "offered = accepted + dead + duplicate; an id conflict counts as dead.",
        "required": [*counts, "first_seq", "last_seq", "verdicts"],
        "properties": {**counts, "first_seq": seq, "last_seq": seq, "verdicts": {"type": "array", "items": row}},
    }


def _problem_schema() -> Schema:
    return {
        "type": "object",
        "required": ["title", "status", "detail"],
        "properties": {
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "seq": {"type": "integer", "description": "Where the body is kept as a dead letter."},
        },
    }
