"""Headers of a request as the door reads them."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote


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
