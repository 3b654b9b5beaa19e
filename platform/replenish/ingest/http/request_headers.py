"""Headers of a request as the door reads them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import parse_qs, unquote

from replenish.errors import EventFault, RequestRefused
from replenish.ingest.http.cloud_event import check_name


def headers_of(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """Headers by lower-case name; one given twice is joined by a comma, which no credential or id survives."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        headers[key] = f"{headers[key]},{text}" if key in headers else text
    return headers


def binary_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """The `ce-` headers without it, percent-decoded as the HTTP binding of CloudEvents has them."""
    attributes = {name[3:]: unquote(value) for name, value in headers.items() if name.startswith("ce-")}
    return {**attributes, "datacontenttype": headers["content-type"]}


def named_source(query: bytes) -> str | None:
    """What the address names as the source of rows without one.

    Raises:
        RequestRefused: 400, it can be no source.
    """
    named = parse_qs(query.decode("latin-1")).get("source", [None])[0]
    try:
        if named is not None:
            check_name("source", named)
    except EventFault as fault:
        raise RequestRefused(400, "bad_source", f"the parameter source {fault.rule}") from None
    return named
