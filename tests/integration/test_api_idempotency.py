"""One key, one effect: fifty callers at once, a caller that waits in vain, and a process that dies before it has answered."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from api.errors import status_of
from custody.db.session import Database
from custody.idempotency import service as idempotency
from custody.idempotency.errors import KeyInProgress, KeyReused
from custody.idempotency.model import KeyUse
from custody.identity.model import Principal
from custody.kernel.ids import PrincipalId, TenantId, new_uuid
from devnet.ports import choose_port
from tests.integration.api_harness import XLM, Harness
from tests.integration.test_api_load import furnish, show_id
from tests.integration.test_api_process import Process, start, wait_until_alive

CALLERS = 50
MARK = b"m" * 32


async def held(api: Harness) -> int:
    rows = (await api.get(f"/v1/wallets/{api.tenant.empty_wallet}/balances")).json()["data"]
    return sum(int(row["posted"]) for row in rows)


@pytest.mark.parametrize("batched", [True, False], ids=["transfer", "adjustment"])
async def test_fifty_callers_with_one_key_see_one_effect_and_one_answer(
    shared_api: Harness, *, batched: bool
) -> None:
    tenant = shared_api.tenant
    path, body = (
        (
            "/v1/transfers",
            {
                "from_wallet_id": tenant.wallet,
                "to_wallet_id": tenant.empty_wallet,
                "asset": XLM.text,
                "amount": "3",
            },
        )
        if batched
        else (
            "/v1/adjustments",
            {
                "wallet_id": tenant.wallet,
                "direction": "credit",
                "asset": XLM.text,
                "amount": "3",
                "reason": "opening",
                "evidence": "fifty callers",
            },
        )
    )
    before, key = await held(shared_api), f"fifty-{batched}"
    found = await asyncio.gather(*(shared_api.post(path, body, key=key) for _ in range(CALLERS)))
    reused = [await shared_api.post(path, body | {"amount": "4"}, key=key) for _ in range(2)]
    assert {each.status_code for each in found} == {201}
    assert len({each.content for each in found}) == 1
    assert sum("idempotency-replayed" not in each.headers for each in found) == 1
    assert {(each.status_code, each.json()["code"]) for each in reused} == {(422, "idempotency_key_reused")}
    assert await held(shared_api) == before + (3 if batched else 0)


async def ask_in_vain(database: Database, caller: Principal, how: str) -> None:
    async with database.unit_of_work(caller.tenant) as uow:
        if how == "begin":
            await idempotency.begin(uow, caller, "k", MARK, patience_s=0.02)
        else:
            use = KeyUse(principal=caller, key="k", fingerprint=MARK)
            await idempotency.begin_all(uow, [use], patience_s=0.02)


async def test_a_second_caller_does_not_wait_for_ever(database: Database, tenant: TenantId) -> None:
    caller = Principal(tenant=tenant, id=PrincipalId(new_uuid()), subject="app", scopes=frozenset({"write"}))
    async with database.unit_of_work(tenant) as first:
        assert await idempotency.begin(first, caller, "k", MARK) is None
        for ask in ("begin", "begin_all"):
            with pytest.raises(KeyInProgress) as told:
                await ask_in_vain(database, caller, ask)
        assert (status_of(told.value), told.value.retryable) == (409, True)
        await idempotency.record(first, caller, "k", MARK, 201, b"{}")
    async with database.unit_of_work(tenant) as later:
        replay = await idempotency.begin(later, caller, "k", MARK)
        assert replay is not None
        assert (replay.status, replay.body) == (201, b"{}")
    with pytest.raises(KeyReused):
        async with database.unit_of_work(tenant) as other:
            await idempotency.begin(other, caller, "k", b"o" * 32)


GATE = """
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON idempotency_keys DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION gate()
"""
"""Holds every commit that records a key for as long as somebody has the lock."""
WAITING = """
SELECT count(*) FROM pg_locks WHERE NOT granted
   AND (relation = 'idempotency_keys'::regclass OR (locktype = 'advisory' AND objid = 42))
"""
KEPT = "SELECT count(*) FROM idempotency_keys"


async def test_a_process_killed_between_effect_and_answer_answers_the_same_afterwards(
    app_dsn: str, admin_dsn: str, database: Database, tenant: TenantId, tmp_path: Path
) -> None:
    """Frozen while Postgres works for it, then killed: once before its commit, once when the commit was made and not answered."""
    secret, wallets = await furnish(database, tenant)
    port = choose_port("api-killed", None, set(), lambda _: None)
    log = tmp_path / "api.log"
    admin = Database(admin_dsn, pool_size=3)

    def begin() -> subprocess.Popen[bytes]:
        with log.open("ab") as out:
            popen = start(app_dsn, tmp_path, port, out.fileno())
        wait_until_alive(Process(popen=popen, url=f"http://127.0.0.1:{port}", log=log))
        return popen

    order = {
        "from_wallet_id": show_id("wal", wallets[0]),
        "to_wallet_id": show_id("wal", wallets[1]),
        "asset": XLM.text,
        "amount": "11",
    }
    popen = await asyncio.to_thread(begin)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as http:

        async def ask(key: str) -> httpx.Response:
            headers = {"Authorization": f"Bearer {secret}", "Idempotency-Key": key}
            return await http.post("/v1/transfers", json=order, headers=headers)

        try:
            async with admin.engine.begin() as conn:
                for statement in GATE.split(";\nCREATE CONSTRAINT"):
                    prefix = "" if "FUNCTION gate() RETURNS" in statement else "CREATE CONSTRAINT"
                    await conn.execute(text(prefix + statement))
            for key, hold, kept in (
                ("before", "LOCK TABLE idempotency_keys IN EXCLUSIVE MODE", 0),
                ("after", "SELECT pg_advisory_xact_lock(42)", 2),
            ):
                async with admin.engine.begin() as gate:
                    await gate.execute(text(hold))
                    asking = asyncio.create_task(ask(key))
                    await _until(admin, WAITING, 1)
                    popen.send_signal(signal.SIGSTOP)
                # The gate is open: Postgres goes on, and the process does not hear of it.
                await _until(admin, KEPT, kept)
                popen.kill()
                popen.wait()
                with pytest.raises(httpx.TransportError):
                    await asking
                popen = await asyncio.to_thread(begin)
                first, again = await ask(key), await ask(key)
                assert (first.status_code, again.status_code, again.content) == (201, 201, first.content)
                assert ("idempotency-replayed" in first.headers) == (key == "after")
        finally:
            popen.kill()
            popen.wait()
            await admin.close()
    async with database.read(tenant) as session:
        told = await session.conn.execute(
            text("SELECT count(*) FROM outbox WHERE type = 'transfer.posted' AND tenant_id = :tenant"),
            {"tenant": tenant},
        )
        assert told.scalar_one() == 2


async def _until(admin: Database, query: str, count: int) -> None:
    async with asyncio.timeout(60):
        while True:
            async with admin.engine.connect() as conn:
                if (await conn.execute(text(query))).scalar_one() == count:
                    return
            await asyncio.sleep(0.02)
