"""One Postgres per test process, one database per test: cloned from a migrated template, or one that a test left as it got it.

Cloning copies some eight hundred files, which takes longer than most tests do. So a database whose schema nobody touched is
emptied and given to the next test. What tells is the database itself: an event trigger notes every change of the schema, and the
rows that migrations made are compared with the template's. Whatever is not surely as new is dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import asyncpg

from custody.db.provision import provision
from devnet.postgres import Postgres
from devnet.throwaway import throwaway_postgres

APP_PASSWORD = "custody-test"
TEMPLATE = "custody_template"
USES_MAX = 60
"""Tests after which a database is dropped all the same: rows that were removed still take room."""
_numbers = itertools.count(1)

_RESET = """
CREATE SCHEMA test_reset;
CREATE TABLE test_reset.changes (command text);
CREATE FUNCTION test_reset.note() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE command record;
BEGIN
  IF tg_event = 'sql_drop' THEN
    FOR command IN SELECT * FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary LOOP
      INSERT INTO test_reset.changes VALUES (tg_tag);
    END LOOP;
  ELSE
    FOR command IN SELECT * FROM pg_event_trigger_ddl_commands() LOOP
      IF command.schema_name IS NULL OR command.schema_name NOT LIKE 'pg_temp%' THEN
        INSERT INTO test_reset.changes VALUES (tg_tag);
      END IF;
    END LOOP;
  END IF;
END $$;
CREATE FUNCTION test_reset.seeded() RETURNS text LANGUAGE plpgsql AS $$
DECLARE one regclass; part text; whole text := '';
BEGIN
  FOR one IN SELECT name FROM test_reset.kept ORDER BY name::text LOOP
    EXECUTE format('SELECT md5(coalesce(string_agg(t::text, chr(10) ORDER BY t::text), '''')) FROM %s t', one) INTO part;
    whole := whole || one || part;
  END LOOP;
  RETURN whole;
END $$;
CREATE FUNCTION test_reset.empty() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE one regclass; found boolean; counter record;
BEGIN
  IF EXISTS (SELECT FROM test_reset.changes) OR (SELECT as_new FROM test_reset.seed) <> test_reset.seeded() THEN
    RETURN false;
  END IF;
  FOR one IN SELECT name FROM test_reset.emptied LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one) INTO found;
    IF found THEN
      EXECUTE format('DELETE FROM %s', one);
    END IF;
  END LOOP;
  FOR counter IN SELECT s.seqrelid::regclass AS name, s.seqstart FROM pg_sequence s
                 WHERE pg_sequence_last_value(s.seqrelid) IS NOT NULL LOOP
    PERFORM setval(counter.name, counter.seqstart, false);
  END LOOP;
  RETURN true;
END $$;
CREATE TABLE test_reset.kept (name regclass);
CREATE TABLE test_reset.emptied (name regclass);
DO $$
DECLARE one regclass; found boolean;
BEGIN
  FOR one IN SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
               AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'test_reset') LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', one) INTO found;
    IF found THEN
      INSERT INTO test_reset.kept VALUES (one);
    ELSE
      INSERT INTO test_reset.emptied VALUES (one);
    END IF;
  END LOOP;
END $$;
CREATE TABLE test_reset.seed AS SELECT test_reset.seeded() AS as_new;
CREATE EVENT TRIGGER test_reset_changed ON ddl_command_end EXECUTE FUNCTION test_reset.note();
CREATE EVENT TRIGGER test_reset_dropped ON sql_drop EXECUTE FUNCTION test_reset.note();
-- Also in sessions that tamper as a replica does.
ALTER EVENT TRIGGER test_reset_changed ENABLE ALWAYS;
ALTER EVENT TRIGGER test_reset_dropped ENABLE ALWAYS;
"""
_SETTINGS = """
SELECT (SELECT count(*) FROM pg_db_role_setting s WHERE s.setdatabase = d.oid) > 0 OR datconnlimit <> -1 OR NOT datallowconn
FROM pg_database d WHERE datname = $1
"""
_STRANGERS = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""


@dataclass(frozen=True)
class Cluster:
    """A running server with a migrated template."""

    server: Postgres
    _free: list[str] = field(default_factory=list)
    _uses: dict[str, int] = field(default_factory=dict)

    def dsn(self, database: str, user: str = "postgres") -> str:
        """How this user reaches a database."""
        return self.server.dsn(user, APP_PASSWORD if user == "custody_app" else None, database)

    async def create(self, *, unused: bool = False) -> str:
        """A migrated database without a row of any test; its name. `unused`: it never held one, so its pages are new too."""
        if self._free and not unused:
            return self._free.pop()
        name = f"test_{next(_numbers)}"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY FILE_COPY")
        return name

    async def release(self, name: str) -> None:
        """Take a test's database back, whoever is still connected: for another test where it can be made as new."""
        uses = self._uses[name] = self._uses.get(name, 0) + 1
        if uses < USES_MAX and await self._emptied(name):
            self._free.append(name)
        else:
            await self.drop(name)

    async def drop(self, name: str) -> None:
        """Remove a test's database, whoever is still connected."""
        await self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    async def _emptied(self, name: str) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn(name))
        except asyncpg.PostgresError:
            return False  # a test that renamed it, dropped it, or closed it to newcomers
        try:
            if await connection.fetchval(_SETTINGS, name):
                return False
            while await connection.fetchval(_STRANGERS):
                pass
            # Also past the triggers that refuse it: nobody but a test's end removes history.
            await connection.execute("SET session_replication_role = replica")
            return bool(await connection.fetchval("SELECT test_reset.empty()"))
        finally:
            await connection.close()

    async def _execute(self, sql: str) -> None:
        connection = await asyncpg.connect(self.dsn("postgres"))
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    """A server without durability (a test's database does not outlive its test) and with the template migrated."""
    with throwaway_postgres() as server:
        server.run_sql(f"CREATE DATABASE {TEMPLATE}")
        cluster = Cluster(server)
        provision(cluster.dsn(TEMPLATE), APP_PASSWORD)
        server.run_sql(_RESET, TEMPLATE)
        yield cluster
