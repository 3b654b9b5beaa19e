"""The document describes the door: generated requests get documented answers, never an error of ours."""

from __future__ import annotations

import json
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.unit.ingest.http.http_door import NDJSON, Shop, open_shop

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 60


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory):
    with open_shop(tmp_path_factory.mktemp("door")) as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/events", "POST"),
        ("/events/{stream}", "POST"),
        ("/debezium/{feed}", "POST"),
        ("/healthz", "GET"),
        ("/readyz", "GET"),
        ("/metrics", "GET"),
        ("/openapi.json", "GET"),
    ],
)
def test_generated_requests_get_documented_answers(shop: Shop, path: str, method: str) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", shop.app)
    operation = schema[path][method]

    @hypothesis.given(case=operation.as_strategy())
    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    def each(case: schemathesis.Case) -> None:
        case.call_and_validate(checks=CHECKS)

    each()


def test_the_journal_behind_generated_requests_is_sound(shop: Shop) -> None:
    shop.journal.verify_chain()


def test_every_documented_stream_can_be_written(shop: Shop) -> None:
    document = shop.request("GET", "/openapi.json").json()
    (path,) = (p for p in document["paths"]["/events/{stream}"]["post"]["parameters"] if p["in"] == "path")
    for stream in path["schema"]["enum"]:
        assert shop.post(f"/events/{stream}", json.dumps({"id": "x"}).encode(), NDJSON).status_code == 207


def test_the_document_is_valid_openapi(shop: Shop, tmp_path: Path) -> None:
    schemathesis.openapi.from_asgi("/openapi.json", shop.app).validate()
