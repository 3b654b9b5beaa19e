"""Reads `doors.yaml`: which sources may send single events, which databases and topics are followed, where orders go.

    http:
      sources:
        - {source: pos-eu, feeds: [events.sales], token_variable: REPLENISH_TOKEN_POS}
    kafka:
      - {name: till, brokers: "127.0.0.1:9092", topics: [sales], feed: events.sales, format: json}
    postgres:
      - {name: erp, dsn_variable: REPLENISH_ERP_DSN, slot: replenish_erp, publication: replenish_erp,
         tables: {public.sales: erp.sales}}

Secrets are named by environment variable, never written in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

from replenish.contracts.document import YamlNode, read_yaml
from replenish.errors import ContractError

MessageFormat = Literal["json", "cloudevents", "debezium"]
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")
DEFAULT_BIND = "127.0.0.1:8080"
DEFAULT_MAX_LAG_BYTES = 1 << 30
"""Of write-ahead log that a followed database keeps for us, before somebody is told."""


@dataclass(frozen=True)
class HttpSourceSettings:
    """One sender over HTTP: what it may write, and the variables that hold its secrets (none: it needs no proof)."""

    source: str
    feeds: tuple[str, ...]
    token_variable: str | None = None
    webhook_secret_variables: tuple[str, ...] = ()
    """Several while a secret is rotated."""

    @property
    def has_proof(self) -> bool:
        """Whether its requests have to prove who sent them."""
        return self.token_variable is not None or bool(self.webhook_secret_variables)


@dataclass(frozen=True)
class TlsSettings:
    """Certificate and key files of the HTTP door (PEM)."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class HttpSettings:
    """The HTTP door. Without sources it is open, which only loopback allows."""

    host: str = "127.0.0.1"
    port: int = 8080
    sources: tuple[HttpSourceSettings, ...] = ()
    tls: TlsSettings | None = None


@dataclass(frozen=True)
class KafkaSettings:
    """One followed set of topics; all of their messages are events of `feed`."""

    name: str
    brokers: str
    topics: tuple[str, ...]
    feed: str
    group: str = "replenish"
    format: MessageFormat = "json"
    options: dict[str, str] = field(default_factory=dict)
    """Further settings of the client library, by its own names."""


@dataclass(frozen=True)
class PostgresSettings:
    """One followed database: logical replication of `tables` (`schema.table` to feed id) through `slot`."""

    name: str
    dsn_variable: str
    slot: str
    publication: str
    tables: dict[str, str]
    max_lag_bytes: int = DEFAULT_MAX_LAG_BYTES


@dataclass(frozen=True)
class BusSettings:
    """Topic that executed orders are published to."""

    brokers: str
    topic: str


@dataclass(frozen=True)
class DoorSettings:
    """All doors of one deployment beside its drop folder; without a file: HTTP on loopback, open, for every stream."""

    http: HttpSettings = field(default_factory=HttpSettings)
    kafka: tuple[KafkaSettings, ...] = ()
    postgres: tuple[PostgresSettings, ...] = ()
    bus: BusSettings | None = None


def read_doors(path: Path) -> DoorSettings:
    """The doors a file describes; the defaults where there is no file.

    Raises:
        ContractError: Names file, field and rule: an unknown key, a name given twice, an address beyond loopback
            without proof of senders or without TLS.
    """
    if not path.exists():
        return DoorSettings()
    top = read_yaml(path)
    doors = DoorSettings(
        http=_http(top.child("http")) if top.has("http") else HttpSettings(),
        kafka=tuple(_kafka(node) for node in top.children("kafka")),
        postgres=tuple(_postgres(node) for node in top.children("postgres")),
        bus=_bus(top.child("bus")) if top.has("bus") else None,
    )
    top.declare(("http", "bus"))
    top.finish()
    names = [door.name for door in doors.kafka] + [door.name for door in doors.postgres]
    for nr, name in enumerate(names):
        # The lock of a following process is named after its door.
        if name in names[:nr]:
            raise top.error("kafka" if nr < len(doors.kafka) else "postgres", f"the name {name!r} is given twice")
    return doors


def _http(node: YamlNode) -> HttpSettings:
    host, port = _address(node, "bind", DEFAULT_BIND)
    sources = tuple(_http_source(child) for child in node.children("sources"))
    tls = _tls(node.child("tls")) if node.has("tls") else None
    node.declare(("tls",))
    node.finish()
    for nr, source in enumerate(sources):
        if source.source in {other.source for other in sources[:nr]}:
            raise node.error(f"sources[{nr}].source", f"{source.source!r} is given twice")
    if host not in LOOPBACK_HOSTS:
        if not sources or not all(source.has_proof for source in sources):
            raise node.error("bind", "beyond loopback every source needs a token_variable or webhook_secret_variables")
        if tls is None:
            raise node.error("tls", f"beyond loopback (bind: {host}) give {{certificate: ..., key: ...}}")
    return HttpSettings(host, port, sources, tls)


def _http_source(node: YamlNode) -> HttpSourceSettings:
    source = HttpSourceSettings(
        source=_name(node, "source", r"\S+"),
        feeds=node.texts("feeds"),
        token_variable=_variable(node, "token_variable"),
        webhook_secret_variables=tuple(
            _checked_variable(node, "webhook_secret_variables", name)
            for name in node.texts("webhook_secret_variables", ())
        ),
    )
    node.finish()
    if not source.feeds:
        raise node.error("feeds", "name at least one feed")
    return source


def _tls(node: YamlNode) -> TlsSettings:
    tls = TlsSettings(Path(node.text("certificate")), Path(node.text("key")))
    node.finish()
    return tls


def _kafka(node: YamlNode) -> KafkaSettings:
    message_format: MessageFormat = node.choice("format", get_args(MessageFormat), "json")  # type: ignore[assignment]
    settings = KafkaSettings(
        name=_name(node, "name"),
        brokers=node.text("brokers"),
        topics=node.texts("topics"),
        feed=node.text("feed"),
        group=node.text("group", KafkaSettings.group),
        format=message_format,
        options=_texts_by_name(node, "options"),
    )
    node.finish()
    if not settings.topics:
        raise node.error("topics", "name at least one topic")
    return settings


def _postgres(node: YamlNode) -> PostgresSettings:
    variable = _variable(node, "dsn_variable")
    if variable is None:
        raise node.error("dsn_variable", "is missing")
    settings = PostgresSettings(
        name=_name(node, "name"),
        dsn_variable=variable,
        # What PostgreSQL itself allows for the name of a slot; a publication is an identifier.
        slot=_name(node, "slot", r"[a-z0-9_]{1,63}"),
        publication=_name(node, "publication", r"[a-z_][a-z0-9_]{0,62}"),
        tables=_texts_by_name(node, "tables"),
        max_lag_bytes=node.integer("max_lag_bytes", DEFAULT_MAX_LAG_BYTES),
    )
    node.finish()
    if not settings.tables:
        raise node.error("tables", "name at least one table as schema.table: feed")
    for table in settings.tables:
        if not re.fullmatch(r"[^.\s]+\.[^.\s]+", table):
            raise node.error("tables", f"{table!r} must read schema.table")
    if settings.max_lag_bytes <= 0:
        raise node.error("max_lag_bytes", "must be above 0")
    return settings


def _bus(node: YamlNode) -> BusSettings:
    bus = BusSettings(node.text("brokers"), node.text("topic"))
    node.finish()
    return bus


def _address(node: YamlNode, key: str, default: str) -> tuple[str, int]:
    text = node.text(key, default)
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 <= int(port) < 65536:
        raise node.error(key, f"must read host:port, is {text!r}")
    return host.strip("[]"), int(port)


def _name(node: YamlNode, key: str, pattern: str = r"[a-z0-9][a-z0-9_-]*") -> str:
    value = node.text(key)
    if not re.fullmatch(pattern, value):
        raise node.error(key, f"must match {pattern}; is {value!r}")
    return value


def _variable(node: YamlNode, key: str) -> str | None:
    name = node.optional_text(key)
    return None if name is None else _checked_variable(node, key, name)


def _checked_variable(node: YamlNode, key: str, name: str) -> str:
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
        raise node.error(key, "is the name of an environment variable (capitals), never the secret itself")
    return name


def _texts_by_name(node: YamlNode, key: str) -> dict[str, str]:
    if not node.has(key):
        node.declare((key,))
        return {}
    child = node.child(key)
    return {name: child.text(name) for name in child.keys}


def check_door_feeds(doors: DoorSettings, known: frozenset[str]) -> None:
    """Refuse doors that name a feed which takes no single events.

    Raises:
        ContractError: Names the door and the feed.
    """
    named = [(f"http source {s.source}", feed) for s in doors.http.sources for feed in s.feeds]
    named += [(f"kafka {k.name}", k.feed) for k in doors.kafka]
    named += [(f"postgres {p.name}", feed) for p in doors.postgres for feed in p.tables.values()]
    for door, feed in named:
        if feed not in known:
            raise ContractError(
                f"doors.yaml: {door}: no feed {feed!r} takes events; known: {', '.join(sorted(known))}", feed=feed
            )
