"""Every way to send events, and what the sender is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.ingest.http.http_door import (
    BATCH,
    NDJSON,
    STRUCTURED,
    Shop,
    cloud_event,
    fields,
    lines,
    open_shop,
)


@pytest.fixture()
def shop(tmp_path: Path):
    with open_shop(tmp_path) as opened:
        yield opened


def test_a_structured_event_is_accepted_and_its_body_kept_as_sent(shop: Shop) -> None:
    answer = shop.post("/events", cloud_event(), STRUCTURED)
    assert answer.status_code == 200
    assert answer.json()["verdicts"] == [{"row": 1, "id": "e-1", "outcome": "accepted", "seq": 1}]
    (record,) = shop.journal.records()
    assert (record.source, record.id, record.subject) == ("pos", "e-1", "events.sales")
    assert record.data == fields()


@pytest.mark.parametrize("row", [fields(), {"data": fields()}], ids=["plain", "wrapped"])
def test_a_row_without_an_id_is_told_what_a_row_looks_like(shop: Shop, row: dict[str, object]) -> None:
    answer = shop.post("/events/sales", row)
    assert answer.status_code == 422
    told = answer.json()["verdicts"][0]
    assert told["field"] == "id"
    assert 'is missing: a row is {"id": "till-7/1", "data": {' in told["rule"]


def test_a_binary_event_is_the_same_event_as_a_structured_one(shop: Shop) -> None:
    shop.post("/events", cloud_event(), STRUCTURED)
    headers = {f"ce_{name}": str(value) for name, value in cloud_event().items() if name != "data"}
    answer = shop.post("/events", fields(), **headers)
    assert answer.status_code == 200
    assert answer.json()["duplicate"] == 1


def test_binary_attributes_are_percent_decoded(shop: Shop) -> None:
    headers = {f"ce_{name}": str(value) for name, value in cloud_event(id="caf%C3%A9").items() if name != "data"}
    assert shop.post("/events", fields(), **headers).json()["verdicts"][0]["id"] == "café"


def test_a_batch_gives_a_verdict_for_every_event(shop: Shop) -> None:
    rows = [cloud_event(1), cloud_event(2, fields(2, units=-1)), cloud_event(3), cloud_event(1)]
    answer = shop.post("/events", rows, BATCH)
    verdict = answer.json()
    assert answer.status_code == 207
    assert [row["outcome"] for row in verdict["verdicts"]] == ["accepted", "dead", "accepted", "duplicate"]
    assert (verdict["offered"], verdict["accepted"], verdict["dead"], verdict["duplicate"]) == (4, 2, 1, 1)
    dead = verdict["verdicts"][1]
    assert (dead["reason"], dead["field"]) == ("below_minimum", "units")
    assert shop.journal.dead_letters()[0].reason == "below_minimum"


def test_lines_of_events_and_of_plain_rows_may_be_mixed(shop: Shop) -> None:
    body = lines({"id": "a", **fields(1)}, {"id": "b", "data": fields(2)}, cloud_event(3))
    answer = shop.post("/events/sales", body, NDJSON)
    assert answer.json()["accepted"] == 3
    assert [record.data for record in shop.journal.records()] == [fields(1), fields(2), fields(3)]


def test_line_ends_and_blank_lines_do_not_matter(shop: Shop) -> None:
    body = b"\r\n" + lines({"id": "a", "data": fields(1)}).replace(b"\n", b"\r\n\r\n") + b"\n  \n"
    assert shop.post("/events/sales", body, NDJSON).json()["offered"] == 1


def test_a_list_and_a_lone_row_are_taken_as_json(shop: Shop) -> None:
    assert shop.post("/events/sales", [{"id": "a", **fields(1)}]).json()["accepted"] == 1
    assert shop.post("/events/sales", {"id": "b", **fields(2)}).json()["accepted"] == 1


def test_plain_rows_are_filed_under_the_named_source(shop: Shop) -> None:
    shop.post("/events/sales?source=till-7", {"id": "a", **fields(1)})
    assert [record.source for record in shop.journal.records()] == ["till-7"]


def test_a_delete_is_journalled_as_one(shop: Shop) -> None:
    shop.post("/events", cloud_event(type="replenish.event.delete"), STRUCTURED)
    assert shop.types() == ["delete"]


def test_unknown_fields_pass_and_are_kept(shop: Shop) -> None:
    answer = shop.post("/events", cloud_event(data=fields(till=7, nested={"a": [1]})), STRUCTURED)
    assert answer.status_code == 200
    assert next(iter(shop.journal.records())).data["nested"] == {"a": [1]}


def test_the_same_id_with_another_body_is_a_conflict(shop: Shop) -> None:
    shop.post("/events", cloud_event(), STRUCTURED)
    answer = shop.post("/events", cloud_event(data=fields(units=9)), STRUCTURED)
    assert answer.status_code == 409
    assert answer.json()["verdicts"][0]["reason"] == "id_conflict"
    again = shop.post("/events", cloud_event(data=fields(units=9)), STRUCTURED)
    assert again.status_code == 409
    assert (again.json()["duplicate"], again.json()["verdicts"][0]["reason"]) == (1, "id_conflict")
    assert shop.types() == ["upsert", "dead"]


def test_a_lone_refused_event_is_422_and_kept(shop: Shop) -> None:
    answer = shop.post("/events", cloud_event(data=fields(sold_at="2026-03-01T10:00:00")), STRUCTURED)
    assert answer.status_code == 422
    assert answer.json()["verdicts"][0]["reason"] == "naive_time"
    assert [letter.reason for letter in shop.journal.dead_letters()] == ["naive_time"]


def test_the_same_refusal_twice_is_one_letter_and_still_a_refusal(shop: Shop) -> None:
    for _ in range(2):
        answer = shop.post("/events", cloud_event(data=fields(units=-1)), STRUCTURED)
        assert answer.status_code == 422
    assert answer.json()["duplicate"] == 1
    assert len(shop.journal.dead_letters()) == 1


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"specversion": None}, "bad_envelope", "specversion"),
        ({"specversion": "0.3"}, "unsupported_version", "specversion"),
        ({"id": ""}, "bad_envelope", "id"),
        ({"id": "a\u0085b"}, "bad_envelope", "id"),
        ({"id": "x" * 513}, "bad_envelope", "id"),
        ({"source": None}, "bad_envelope", "source"),
        ({"type": "com.example.other"}, "bad_envelope", "type"),
        ({"type": None}, "bad_envelope", "type"),
        ({"subject": None}, "bad_envelope", "subject"),
        ({"subject": "events.nothing"}, "unknown_feed", "subject"),
        ({"id": 7}, "bad_envelope", None),
        ({"time": "yesterday"}, "bad_envelope", None),
        ({"time": "2026-03-01T10:00:00"}, "bad_envelope", None),
        ({"datacontenttype": "text/xml"}, "bad_envelope", "datacontenttype"),
        ({"data_base64": "AA=="}, "bad_envelope", "data_base64"),
        ({"Extension": "x"}, "bad_envelope", "Extension"),
    ],
)
def test_a_malformed_envelope_is_a_dead_letter(
    shop: Shop, changes: dict[str, object], reason: str, field: str | None
) -> None:
    event = {name: value for name, value in (cloud_event() | changes).items() if value is not None}
    answer = shop.post("/events", event, STRUCTURED)
    verdict = answer.json()["verdicts"][0]
    assert answer.status_code == 422
    assert (verdict["reason"], verdict.get("field")) == (reason, field)
    assert shop.types() == ["dead"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b'{"id":"a","id":"b","data":%s}', "duplicate_key"),
        (b'{"id":"a","data":%s,"data":{}}', "duplicate_key"),
        (b'{"data":%s}', "bad_envelope"),
        (b'{"id":"a","specversion":"1.0"}', "bad_envelope"),
        (b'{"id":"a","x":null}', "missing_required"),
        (b'{"id":"a","data":[1]}', "not_json"),
        (b'{"id":"a","data":{"units":NaN}}', "not_json"),
        (b'{"id":"a","data":{"units":1e999}}', "out_of_range"),
        (b'{"id":"a","data":{"units":9223372036854775808}}', "out_of_range"),
        (b'{"id":"a","data":{"n":{"m":9223372036854775808}}}', "out_of_range"),
        (b'{"id":"a","data":{"units":1,"units":2}}', "duplicate_key"),
        (b'{"id":"a","data":{"sku_id":"\\ud800"}}', "lone_surrogate"),
        (b'{"id":"a","data":{"sku_id":"a\\u0000"}}', "control_character"),
        (b'{"id":"a","data":{"sku_id":"\xff"}}', "wrong_encoding"),
        (b'{"id":"a","data":{"x":' + b"[" * 70 + b"]" * 70 + b"}}", "too_deep"),
    ],
)
def test_strict_json_holds_in_the_envelope_and_in_the_data(shop: Shop, row: bytes, reason: str) -> None:
    data = json.dumps(fields(), separators=(",", ":")).encode()
    good = b'{"id":"good","data":' + data + b"}\n"
    # The good one comes first, so that the fast way is warm when the bad one comes.
    answer = shop.post(
        "/events/sales", good + row.replace(b"%s", data) + b"\n" + good.replace(b"good", b"more"), NDJSON
    )
    assert answer.status_code == 207
    assert [v["outcome"] for v in answer.json()["verdicts"]] == ["accepted", "dead", "accepted"]
    assert answer.json()["verdicts"][1]["reason"] == reason


def test_a_body_that_is_no_json_is_kept_whole(shop: Shop) -> None:
    for path, body, media_type in (("/events", b"{nope", STRUCTURED), ("/events", b"[nope", BATCH)):
        answer = shop.post(path, body, media_type)
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        letter = shop.journal.dead_letters(seq=answer.json()["seq"])[0]
        assert (letter.reason, letter.raw) == ("not_json", body.decode())


def test_minimal_answers_list_only_rows_that_are_not_plainly_accepted(shop: Shop) -> None:
    shop.post("/events", cloud_event(1), STRUCTURED)
    rows = [cloud_event(1), cloud_event(2), cloud_event(3, fields(units=-1))]
    answer = shop.post("/events", rows, BATCH, prefer="return=minimal")
    assert answer.headers["preference-applied"] == "return=minimal"
    assert [row["row"] for row in answer.json()["verdicts"]] == [1, 3]
    assert answer.json()["offered"] == 3


def test_the_trace_of_the_request_is_kept_with_its_events(shop: Shop) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    shop.post("/events", [cloud_event(1), cloud_event(2)], BATCH, traceparent=trace)
    shop.post("/events", cloud_event(3), STRUCTURED, traceparent="not a trace")
    assert [record.traceparent for record in shop.journal.records()] == [trace, trace, None]


def test_a_debezium_message_is_an_event_once_and_its_delete_takes_it_back(shop: Shop) -> None:
    change = {"op": "c", "before": None, "after": fields(), "source": {"db": "erp", "table": "sales", "lsn": 7}}
    removal = {"op": "d", "before": fields(), "after": None, "source": {"db": "erp", "table": "sales", "lsn": 8}}
    assert shop.post("/debezium/sales", change).json()["accepted"] == 1
    assert shop.post("/debezium/sales", [change, removal]).json()["duplicate"] == 1
    assert shop.post("/debezium/sales", {"op": "?"}).status_code == 422
    assert shop.post("/debezium/sales", b"null").json()["offered"] == 0
    assert shop.types() == ["upsert", "delete", "dead"]


def test_a_stream_nobody_knows_is_not_found(shop: Shop) -> None:
    assert shop.post("/events/nothing", {"id": "a"}).status_code == 404
    assert shop.types() == []


def test_a_subject_that_contradicts_the_address_is_refused(shop: Shop) -> None:
    answer = shop.post("/events/prices", cloud_event())
    assert (answer.status_code, answer.json()["verdicts"][0]["field"]) == (422, "subject")


def test_health_metrics_and_document_are_served(shop: Shop) -> None:
    shop.post("/events", [cloud_event(1), cloud_event(2, fields(units=-1))], BATCH)
    assert shop.request("GET", "/healthz").json() == {"status": "alive"}
    assert shop.request("GET", "/readyz").json() == {"status": "ready"}
    metrics = shop.request("GET", "/metrics")
    assert metrics.headers["content-type"].startswith("application/openmetrics-text")
    assert 'replenish_http_events_total{feed="events.sales",outcome="accepted"} 1.0' in metrics.text
    assert 'replenish_http_dead_letters_total{feed="events.sales",reason="below_minimum"} 1.0' in metrics.text
    assert 'replenish_dead_letters_open{feed="events.sales",reason="below_minimum"} 1.0' in metrics.text
    assert metrics.text.count("# EOF\n") == 1 and metrics.text.endswith("# EOF\n")
    document = shop.request("GET", "/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert "sales_fields" in document["components"]["schemas"]


@pytest.mark.parametrize(
    "ids", [["a", 'x",', "y", "z"], ['x",', "y"], ["a", '","', "b"], ['"', "\\", 'q"'], ["a", "b"]]
)
def test_the_answer_names_the_rows_as_they_were_sent(shop: Shop, ids: list[str]) -> None:
    rows = lines(*({"id": id_, "data": fields(nr)} for nr, id_ in enumerate(ids)))
    answer = shop.post("/events/sales", rows, NDJSON)
    assert answer.status_code == 200
    assert [verdict["id"] for verdict in answer.json()["verdicts"]] == ids
