"""Who may write: tokens, signatures, and a thousand forged, replayed and late webhooks."""

from __future__ import annotations

import base64
import json
import random
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from standardwebhooks.webhooks import Webhook

from replenish.errors import ContractError
from replenish.ingest.http.app import HttpDoorOptions
from replenish.ingest.http.credentials import Credentials, HttpSource
from replenish.ingest.http.server import check_bind
from tests.unit.ingest.http.http_door import BATCH, NDJSON, NOW, STRUCTURED, Shop, cloud_event, fields, lines, open_shop

OLD_SECRET = "whsec_" + base64.b64encode(b"o" * 32).decode()
NEW_SECRET = "whsec_" + base64.b64encode(b"n" * 32).decode()
SOURCES = (
    HttpSource("pos", frozenset({"events.sales"}), token="t" * 32),
    HttpSource("erp", frozenset({"events.receipts"}), token="e" * 32),
    HttpSource("hook", frozenset({"events.sales"}), webhook_secrets=(OLD_SECRET, NEW_SECRET)),
)


@pytest.fixture()
def shop(tmp_path: Path):
    with open_shop(tmp_path, HttpDoorOptions(SOURCES)) as opened:
        yield opened


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def signed(body: bytes, webhook_id: str = "msg_1", age_seconds: int = 0, secret: str = NEW_SECRET) -> dict[str, str]:
    at = NOW - timedelta(seconds=age_seconds)
    return {
        "webhook_id": webhook_id,
        "webhook_timestamp": str(int(at.timestamp())),
        "webhook_signature": Webhook(secret).sign(webhook_id, at, body.decode()),
    }


def hook_body(nr: int = 1) -> bytes:
    return json.dumps(cloud_event(nr, source="hook")).encode()


def test_a_known_token_may_write_its_own_source_and_feed(shop: Shop) -> None:
    assert shop.post("/events", cloud_event(), STRUCTURED, **bearer("t" * 32)).status_code == 200
    assert shop.post("/events/sales", {"id": "p", **fields(5)}, **bearer("t" * 32)).status_code == 200
    assert {record.source for record in shop.journal.records()} == {"pos"}


@pytest.mark.parametrize("proof", ["", "Bearer", "Bearer ", "Bearer x", "Basic dDp0", "bearer " + "t" * 31, "t" * 32])
def test_anything_else_is_401_and_leaves_no_trace(shop: Shop, proof: str) -> None:
    answer = shop.post("/events", b"{nope", STRUCTURED, **({"authorization": proof} if proof else {}))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert shop.types() == []


@pytest.mark.parametrize(
    "event",
    [cloud_event(source="erp"), cloud_event(source="pos2"), cloud_event(subject="events.receipts")],
    ids=["another's source", "an unknown source", "another's feed"],
)
def test_writing_for_somebody_else_is_403_and_nothing_of_the_request_is_taken(
    shop: Shop, event: dict[str, object]
) -> None:
    answer = shop.post("/events", [cloud_event(7), event], BATCH, **bearer("t" * 32))
    assert answer.status_code == 403
    assert shop.types() == []


def test_a_source_in_the_query_is_not_believed_where_senders_are_known(shop: Shop) -> None:
    shop.post("/events/sales?source=erp", {"id": "p", **fields(5)}, **bearer("t" * 32))
    assert [record.source for record in shop.journal.records()] == ["pos"]


def test_a_dead_letter_is_filed_under_the_proven_source(shop: Shop) -> None:
    shop.post("/events", cloud_event(source="erp", type="x"), STRUCTURED, **bearer("t" * 32))
    assert [record.source for record in shop.journal.records()] == ["pos"]


def test_either_secret_of_a_rotation_signs(shop: Shop) -> None:
    for nr, secret in enumerate((OLD_SECRET, NEW_SECRET)):
        body = hook_body(nr)
        assert shop.post("/events", body, STRUCTURED, **signed(body, f"msg_{nr}", secret=secret)).status_code == 200


def test_several_signatures_need_one_good_one(shop: Shop) -> None:
    headers = signed(hook_body())
    headers["webhook_signature"] = f"v1,{'A' * 44} v2,zzz {headers['webhook_signature']}"
    assert shop.post("/events", hook_body(), STRUCTURED, **headers).status_code == 200


def test_a_replayed_webhook_is_a_duplicate(shop: Shop) -> None:
    row = json.dumps(fields()).encode()
    first = shop.post("/events/sales", row, **signed(row))
    again = shop.post("/events/sales", row, **signed(row))
    assert (first.json()["accepted"], again.json()["duplicate"]) == (1, 1)
    assert [record.id for record in shop.journal.records()] == ["msg_1"]


def test_rows_of_one_webhook_are_named_by_it(shop: Shop) -> None:
    body = lines(fields(1), fields(2))
    shop.post("/events/sales", body, NDJSON, **signed(body))
    assert [record.id for record in shop.journal.records()] == ["msg_1/1", "msg_1/2"]


@pytest.mark.parametrize(("age_seconds", "status"), [(299, 200), (-299, 200), (301, 401), (-301, 401), (86_400, 401)])
def test_a_signature_is_good_for_five_minutes(shop: Shop, age_seconds: int, status: int) -> None:
    headers = signed(hook_body(), age_seconds=age_seconds)
    assert shop.post("/events", hook_body(), STRUCTURED, **headers).status_code == status


def mutated(rng: random.Random, headers: dict[str, str], body: bytes) -> tuple[dict[str, str], bytes]:
    """One thing changed in a signed request."""
    headers = dict(headers)
    signature, stamp = headers["webhook_signature"], int(headers["webhook_timestamp"])
    place = rng.randrange(len(body))
    match rng.randrange(9):
        case 0:
            body = body[:place] + bytes([body[place] ^ (1 << rng.randrange(7))]) + body[place + 1 :]
        case 1:
            body = body[:place] + b" " + body[place:]
        case 2:
            place = rng.randrange(3, len(signature))
            other = rng.choice([c for c in "ABCXYZabcxyz0123456789+/= !" if c != signature[place]])
            headers["webhook_signature"] = signature[:place] + other + signature[place + 1 :]
        case 3:
            headers["webhook_timestamp"] = str(stamp + rng.choice([-200, -1, 1, 200, 10_000]))
        case 4:
            headers["webhook_timestamp"] = rng.choice([f"{stamp}.0", f"+{stamp}", f"0{stamp}", "nan", "1e9", "", "-1"])
        case 5:
            headers["webhook_id"] = rng.choice(["msg_2", "", "msg_1 ", "Msg_1x", "m" * 300])
        case 6:
            headers["webhook_signature"] = rng.choice(["", "v1,", "v1", "v1a," + signature[3:], signature[3:], "v1,,"])
        case 7:
            del headers[rng.choice(list(headers))]
        case _:
            other = "whsec_" + base64.b64encode(rng.randbytes(32)).decode()
            headers["webhook_signature"] = signed(body, secret=other)["webhook_signature"]
    return headers, body


def test_a_thousand_forged_or_late_webhooks_bring_nothing_in(shop: Shop) -> None:
    rng = random.Random(20260302)
    answers: list[int] = []
    while len(answers) < 900:
        headers, body = mutated(rng, signed(hook_body()), hook_body())
        # Blanks around a header's value are no part of it: such a request is the signed one.
        stripped = {name: value.strip() for name, value in headers.items()}
        if (stripped, body) == (signed(hook_body()), hook_body()):
            continue
        answers.append(post_raw(shop, headers, body).status_code)
    for nr in range(100):
        headers = signed(hook_body(), age_seconds=rng.choice([-1, 1]) * (301 + nr * 97))
        answers.append(post_raw(shop, headers, hook_body()).status_code)
    assert set(answers) == {401}
    assert len(answers) == 1000
    assert shop.types() == []


def post_raw(shop: Shop, headers: dict[str, str], body: bytes) -> httpx.Response:
    return shop.post("/events", body, STRUCTURED, **headers)


def test_a_secret_that_is_no_base64_is_refused_at_the_start() -> None:
    with pytest.raises(ContractError, match="base64"):
        Credentials((HttpSource("x", frozenset(), webhook_secrets=("whsec_ä",)),), lambda: NOW)


def test_only_loopback_may_be_open() -> None:
    guarded, unguarded = SOURCES, (*SOURCES, HttpSource("anyone", frozenset()))
    for host in ("127.0.0.1", "::1", "localhost", "127.9.9.9"):
        check_bind(host, (), has_tls=False)
    check_bind("0.0.0.0", guarded, has_tls=True)
    for sources, has_tls in (((), True), (unguarded, True), (guarded, False)):
        for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
            with pytest.raises(ContractError, match=r"doors\.yaml"):
                check_bind(host, sources, has_tls=has_tls)


@pytest.mark.parametrize("source", ["replenish", "replenish.settle", "replenish.dead-letters"])
def test_the_sources_of_the_platform_itself_are_nobodys(tmp_path: Path, source: str) -> None:
    with open_shop(tmp_path, HttpDoorOptions()) as shop:
        assert shop.post("/events", cloud_event(source=source), STRUCTURED).status_code == 403
        assert shop.post(f"/events/sales?source={source}", {"id": "p", **fields(5)}).status_code == 403
        assert shop.types() == []
        assert shop.post("/events", cloud_event(source="replenishment"), STRUCTURED).status_code == 200
