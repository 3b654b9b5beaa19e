"""doors.yaml: read strictly, safe by default."""

from pathlib import Path

import pytest

from replenish.contracts.doors import DoorSettings, check_door_feeds, read_doors
from replenish.errors import ContractError

WHOLE = """
http:
  sources:
    - {source: pos-eu, feeds: [events.sales], token_variable: REPLENISH_TOKEN_POS}
    - {source: erp-hook, feeds: [events.receipts], webhook_secret_variables: [REPLENISH_HOOK_A, REPLENISH_HOOK_B]}
  bind: "0.0.0.0:8443"
  tls: {certificate: tls/cert.pem, key: tls/key.pem}
kafka:
  - {name: till, brokers: "127.0.0.1:9092", topics: [sales], feed: events.sales, format: debezium,
     options: {security.protocol: SSL}}
postgres:
  - {name: erp, dsn_variable: REPLENISH_ERP_DSN, slot: replenish_erp, publication: replenish_erp,
     tables: {public.sales: erp.sales}}
bus: {brokers: "127.0.0.1:9092", topic: replenish.decisions}
"""


def _read(folder: Path, text: str) -> DoorSettings:
    path = folder / "doors.yaml"
    path.write_text(text, encoding="utf-8")
    return read_doors(path)


def test_a_whole_file_is_read(tmp_path: Path) -> None:
    doors = _read(tmp_path, WHOLE)
    assert (doors.http.host, doors.http.port, doors.http.tls is not None) == ("0.0.0.0", 8443, True)
    assert [source.source for source in doors.http.sources] == ["pos-eu", "erp-hook"]
    assert doors.http.sources[1].webhook_secret_variables == ("REPLENISH_HOOK_A", "REPLENISH_HOOK_B")
    (kafka,) = doors.kafka
    assert (kafka.group, kafka.format, kafka.options) == ("replenish", "debezium", {"security.protocol": "SSL"})
    (postgres,) = doors.postgres
    assert (postgres.tables, postgres.max_lag_bytes) == ({"public.sales": "erp.sales"}, 1 << 30)
    assert doors.bus is not None and doors.bus.topic == "replenish.decisions"


def test_without_a_file_only_this_machine_may_send(tmp_path: Path) -> None:
    doors = read_doors(tmp_path / "doors.yaml")
    assert (doors.http.host, doors.http.sources, doors.kafka, doors.postgres, doors.bus) == (
        "127.0.0.1", (), (), (), None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("token_variable: REPLENISH_TOKEN_POS", "token: secret", "token"),
        ("token_variable: REPLENISH_TOKEN_POS", "token_variable: s3cret", "token_variable"),
        (", token_variable: REPLENISH_TOKEN_POS", "", "bind"),
        ("  tls: {certificate: tls/cert.pem, key: tls/key.pem}\n", "", "tls"),
        ("source: erp-hook", "source: pos-eu", "source"),
        ('"0.0.0.0:8443"', '"8443"', "bind"),
        ("name: erp,", "name: till,", "postgres"),
        ("format: debezium", "format: avro", "format"),
        ("public.sales: erp.sales", "sales: erp.sales", "tables"),
        ("slot: replenish_erp", "slot: Replenish-ERP", "slot"),
        ("feeds: [events.sales], ", "", "feeds"),
        ("bus:", "buss:", "buss"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    assert old in WHOLE
    with pytest.raises(ContractError, match=named):
        _read(tmp_path, WHOLE.replace(old, new, 1))


def test_doors_lead_to_feeds_that_are_there(tmp_path: Path) -> None:
    doors = _read(tmp_path, WHOLE)
    check_door_feeds(doors, frozenset({"events.sales", "events.receipts", "erp.sales"}))
    with pytest.raises(ContractError, match=r"postgres erp.*erp\.sales"):
        check_door_feeds(doors, frozenset({"events.sales", "events.receipts"}))
