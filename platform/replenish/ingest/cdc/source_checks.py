"""What a source database has to be like before it is followed; each refusal says the statement that mends it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from replenish.contracts.doors import PostgresSettings
from replenish.errors import SourceFault
from replenish.ingest.cdc.pgoutput import TIMESTAMPTZ
from replenish.ingest.cdc.source_tables import BoundTable

OLDEST_VERSION = 140_000
_PUBLISHED = """
select t.schemaname, t.tablename, to_jsonb(t) -> 'attnames', to_jsonb(t) ->> 'rowfilter', c.relkind::text,
       c.relreplident::text,
       array(select a.attname::text from pg_attribute a
             where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
             order by a.attnum),
       array(select a.attname::text from pg_index i
             join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
             where i.indrelid = c.oid
               and case c.relreplident when 'd' then i.indisprimary when 'i' then i.indisreplident else false end),
       array(select a.attname::text from pg_attribute a where a.attrelid = c.oid and a.atttypid = %s)
from pg_publication_tables t
join pg_namespace n on n.nspname = t.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
where t.pubname = %s
"""


@dataclass(frozen=True)
class PublishedTable:
    """A table of the publication as it is now."""

    schema: str
    table: str
    columns: tuple[str, ...]
    """Published columns in table order."""
    row_filter: str | None
    """SQL condition of the publication."""
    is_partitioned: bool
    identity_columns: tuple[str, ...]
    """Columns whose old values updates and deletes tell."""
    instant_places: tuple[int, ...]
    """Places of the columns of type `timestamptz`."""

    @property
    def name(self) -> str:
        """`schema.table`."""
        return f"{self.schema}.{self.table}"


def published_tables(connection: psycopg.Connection, publication: str) -> dict[str, PublishedTable]:
    """The publication's tables by `schema.table`; roots of partitioned tables where it publishes by root."""
    found = {}
    rows = connection.execute(_PUBLISHED, (TIMESTAMPTZ, publication))
    for schema, table, names, row_filter, kind, identity, columns, key, instants in rows:
        # Before version 15 a publication has neither columns nor conditions of its own.
        published = tuple(columns) if names is None else tuple(name for name in columns if name in names)
        told = published if identity == "f" else tuple(key)
        places = tuple(nr for nr, name in enumerate(published) if name in instants)
        shown = PublishedTable(schema, table, published, row_filter, kind == "p", told, places)
        found[shown.name] = shown
    return found


def check_source(
    connection: psycopg.Connection, settings: PostgresSettings, tables: Mapping[str, BoundTable]
) -> dict[str, PublishedTable]:
    """The published tables, when the source is as following needs it.

    Raises:
        SourceFault: It is not; the message holds the statement that its owner has to run.
    """
    _check_server(connection)
    named = connection.execute("select 1 from pg_publication where pubname = %s", (settings.publication,)).fetchone()
    if named is None:
        wanted = ", ".join(settings.tables)
        raise SourceFault(f"no publication: CREATE PUBLICATION {settings.publication} FOR TABLE {wanted};")
    published = published_tables(connection, settings.publication)
    for name, bound in tables.items():
        if name not in published:
            raise SourceFault(
                f"{name} is not published: ALTER PUBLICATION {settings.publication} ADD TABLE {name}; (of a "
                "partitioned table name the root and SET (publish_via_partition_root = true))"
            )
        _check_table(bound, published[name])
    for name in published:
        if name not in tables:
            raise SourceFault(
                f"{name} is published and doors.yaml gives it no feed: give it one, or ALTER PUBLICATION "
                f"{settings.publication} DROP TABLE {name};"
            )
    return published


def _check_server(connection: psycopg.Connection) -> None:
    if connection.info.server_version < OLDEST_VERSION:
        raise SourceFault("PostgreSQL 14 or later is needed", version=connection.info.server_version)
    if _setting(connection, "wal_level") != "logical":
        raise SourceFault("ALTER SYSTEM SET wal_level = logical; and restart the source's server")
    if _setting(connection, "server_encoding") == "SQL_ASCII":
        # Such a database holds bytes of any encoding, and none can be told from another.
        raise SourceFault("a database of encoding SQL_ASCII cannot be followed: its texts have no known encoding")


def _setting(connection: psycopg.Connection, name: str) -> str:
    row = connection.execute("select current_setting(%s)", (name,)).fetchone()
    return str(row[0]) if row is not None else ""


def _check_table(bound: BoundTable, table: PublishedTable) -> None:
    missing = [name for name in (*bound.needed, *bound.key_columns) if name not in table.columns]
    if missing:
        raise SourceFault(f"{bound.table} has (or publishes) no column {', '.join(missing)}, which its feed reads")
    untold = [name for name in bound.key_columns if name not in table.identity_columns]
    if untold:
        raise SourceFault(
            f"changes of {bound.table} do not tell the old {', '.join(untold)}, which name the fact: "
            f"ALTER TABLE {bound.table} REPLICA IDENTITY FULL;"
        )
