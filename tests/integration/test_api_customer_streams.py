"""A wallet's end user watches its own wallets: nothing of them is missed, and of others nothing told, not even how much."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from custody.db.session import Database
from custody.events import outbox
from custody.events.relay import relay
from custody.identity import customer_tokens
from custody.identity import service as identity
from custody.kernel.clock import SystemClock
from custody.kernel.ids import CustomerId, VaultId, WalletId, new_uuid, parse_id, show_id
from custody.wallets import service as wallets
from tests.integration.api_harness import STRANGER, XLM, Harness, fund
from tests.integration.stream_stage import PATIENCE_S, Client, dialled, settled, streaming
from tests.postgres import Cluster

BALANCE = """subscription ($after: String) { balanceChanged(after: $after) {
  sequence cause walletId wallet { id customer { name } } } }"""
ASKED = ("withdrawal.requested", "withdrawal.screening", "withdrawal.awaiting_approval")
STATES = ("requested", "screening", "awaiting_approval")
"""What asking for a withdrawal is told as, and the states that it names."""
WITHDRAWAL = "subscription { withdrawal { sequence type state withdrawal { wallet { id } } } }"


@dataclass(kw_only=True)
class Stage:
    """Two customers of one tenant: Ada, whom the harness furnished, and Bob."""

    api: Harness
    url: str
    bob: str
    bobs: str
    """Bob's wallet."""
    tokens: dict[str, str]
    """By `ada` and `bob`."""

    @property
    def adas(self) -> str:
        """Ada's wallet."""
        return self.api.tenant.wallet

    async def pay(self, sender: str, receiver: str) -> None:
        """A transfer with a fee, by the tenant."""
        body = {
            "from_wallet_id": sender,
            "to_wallet_id": receiver,
            "asset": XLM.text,
            "amount": "5",
            "fee": "1",
        }
        assert (await self.api.post("/v1/transfers", body)).status_code == 201

    async def withdraw(self, wallet: str) -> None:
        """A withdrawal, by the tenant."""
        body = {"wallet_id": wallet, "asset": XLM.text, "amount": "7", "destination": STRANGER}
        assert (await self.api.post("/v1/withdrawals", body)).status_code == 201

    async def emit(self, event_type: str, wallet: str) -> None:
        """A fact about a wallet, as what is not at hand here would tell it."""
        data = {"wallet_id": str(parse_id("wal", wallet)), "state": "posted", "missing": 1}
        async with self.api.app.db.unit_of_work(self.api.tenant.id) as uow:
            await outbox.emit(uow, event_type, new_uuid(), data)


@pytest.fixture(scope="module")
async def stage(cluster: Cluster) -> AsyncIterator[Stage]:
    async with streaming(cluster) as (api, url):
        bob, bobs = CustomerId(new_uuid()), WalletId(new_uuid())
        async with api.app.db.unit_of_work(api.tenant.id) as uow:
            await wallets.create_customer(uow, "test", bob, name="Bob", external_ref="bob")
            await wallets.create_wallet(uow, "test", bobs, bob, "bob's")
            await fund(uow, bobs, VaultId(parse_id("vlt", api.tenant.vault)), XLM)
        shown = show_id("cus", bob)
        tokens = {
            name: (await api.post(f"/v1/customers/{customer}/tokens", {})).json()["token"]
            for name, customer in (("ada", api.tenant.customer), ("bob", shown))
        }
        yield Stage(api=api, url=url, bob=shown, bobs=show_id("wal", bobs), tokens=tokens)


async def told(client: Client, field: str, until: str) -> list[dict[str, Any]]:
    """What comes, up to a cause or type."""
    found = [await client.next(field)]
    while until not in (found[-1].get("cause"), found[-1].get("type")):
        found.append(await client.next(field))
    return found


async def test_each_is_told_of_its_own_side_and_counts_for_itself(stage: Stage) -> None:
    ada, bob = stage.adas, stage.bobs
    async with (
        dialled(stage.url, stage.tokens["ada"]) as hers,
        dialled(stage.url, stage.tokens["bob"]) as his,
    ):
        for client in (hers, his):
            await client.subscribe("balance", BALANCE)
            await settled(client)
        await stage.pay(ada, bob)
        await stage.withdraw(bob)
        await stage.emit("withdrawal.decided", ada)  # what approvers do is not hers to see
        await stage.emit("adjustment.proposed", ada)
        await stage.withdraw(ada)
        await stage.pay(bob, ada)
        for wallet in (ada, bob):
            await stage.emit("payout.settled", wallet)  # of payouts they see the entries in their statements
        seen = {
            name: await told(client, "balanceChanged", "ledger.posted")
            for name, client in (("ada", hers), ("bob", his))
        }
    for name, wallet, whose in (("ada", ada, "Ada"), ("bob", bob, "Bob")):
        causes = [each["cause"] for each in seen[name]]
        assert causes == ["transfer.posted", *ASKED, "transfer.posted", "ledger.posted"], name
        assert [int(each["sequence"]) for each in seen[name]] == [1, 2, 3, 4, 5, 6]
        shown = {"walletId": wallet, "wallet": {"id": wallet, "customer": {"name": whose}}}
        assert all(each | shown == each for each in seen[name]), seen[name]
    await its_rows_are_all_a_customer_reads(stage)


async def its_rows_are_all_a_customer_reads(stage: Stage) -> None:
    """What the database itself shows to a transaction of Ada's: her wallet's side, and of the tenant's feed nothing."""
    customer = CustomerId(parse_id("cus", stage.api.tenant.customer))
    async with stage.api.app.db.read(stage.api.tenant.id, customer) as session:
        rows = (
            await session.conn.execute(text("SELECT type, data FROM customer_events ORDER BY place"))
        ).all()
        assert (await session.conn.execute(text("SELECT count(*) FROM outbox"))).scalar_one() == 0
    own = str(parse_id("wal", stage.adas))
    assert [tuple(row) for row in rows] == [
        ("transfer.posted", {"source_wallet_id": own}),
        *[(each, {"wallet_id": own, "state": state}) for each, state in zip(ASKED, STATES, strict=True)],
        ("transfer.posted", {"destination_wallet_id": own}),
        ("ledger.posted", {"wallet_id": own}),
    ]


async def test_whoever_comes_back_again_and_again_has_missed_nothing(stage: Stage) -> None:
    """Over both transports, while money moves; a place of one's own is all that is named."""
    seen = [0]
    async with asyncio.TaskGroup() as group:
        moving = group.create_task(keep_paying(stage))
        for _ in range(4):
            async with dialled(stage.url, stage.tokens["ada"]) as client:
                await client.subscribe("balance", BALANCE, after=str(seen[-1]))
                seen += [int((await client.next("balanceChanged"))["sequence"]) for _ in range(4)]
        seen += await by_events(stage, seen[-1])
        moving.cancel()
    assert seen == list(range(len(seen)))


async def keep_paying(stage: Stage) -> None:
    while True:
        await stage.pay(stage.bobs, stage.adas)
        await stage.withdraw(stage.bobs)
        await asyncio.sleep(0.02)


async def by_events(stage: Stage, after: int) -> list[int]:
    """The next three places, as server-sent events."""
    headers = {
        "Authorization": f"Bearer {stage.tokens['ada']}",
        "Accept": "text/event-stream",
        "Last-Event-ID": str(after),
    }
    seen: list[int] = []
    async with (
        httpx.AsyncClient(base_url=stage.url, timeout=PATIENCE_S) as http,
        http.stream("POST", "/graphql", json={"query": BALANCE}, headers=headers) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: {"):
                seen.append(int(json.loads(line[6:])["data"]["balanceChanged"]["sequence"]))
            if len(seen) == 3:
                break
    return seen


async def test_workers_that_relay_at_once_tell_each_customer_of_each_event_once(stage: Stage) -> None:
    api, relayed = stage.api, asyncio.Event()
    ada = parse_id("cus", api.tenant.customer)

    async def relays() -> None:
        while not relayed.is_set():
            await relay(api.app.db, api.app.waker, api.tenant.id)

    async with asyncio.TaskGroup() as group:
        for _ in range(3):  # beside the stage's own
            group.create_task(relays())
        for _ in range(40):
            await stage.emit("deposit.credited", stage.adas)
        while await relay(api.app.db, api.app.waker, api.tenant.id):
            pass
        relayed.set()
    async with api.app.db.read(api.tenant.id) as session:
        asked = text("SELECT place, event_id FROM customer_events WHERE customer_id = :ada ORDER BY place")
        rows = (await session.conn.execute(asked, {"ada": ada})).all()
        emitted = text("SELECT id FROM outbox WHERE type = 'deposit.credited' ORDER BY position")
        ids = (await session.conn.execute(emitted)).scalars().all()
    assert [row.place for row in rows] == list(range(1, len(rows) + 1))
    assert len(ids) == 40
    assert [row.event_id for row in rows if row.event_id in set(ids)] == ids


async def test_a_socket_ends_with_its_token(stage: Stage, cluster: Cluster) -> None:
    """Revoked, or simply over: at most an hour after it was issued every customer's socket ends so."""
    api = stage.api
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        issued = await customer_tokens.issue(
            uow,
            await identity.authenticate(api.app.db, api.tenant.keys["all"]),
            new_uuid(),
            CustomerId(parse_id("cus", api.tenant.customer)),
            acts=(),
            lifetime=customer_tokens.LIFETIME_MAX,
            now=SystemClock().now(),
        )

    async def revoke() -> None:
        await api.post(f"/v1/customers/{stage.bob}/tokens/revoke", {})

    async def let_its_hour_pass() -> None:
        admin = Database(cluster.dsn(api.app.db.url.rpartition("/")[2]), pool_size=1)
        async with admin.engine.begin() as conn:
            over = text("UPDATE access_tokens SET expires_at = clock_timestamp() WHERE id = :id")
            await conn.execute(over, {"id": issued.id})
        await admin.close()

    async def end_of(token: str, end: Callable[[], Awaitable[None]]) -> None:
        async with dialled(stage.url, token) as client:
            await client.subscribe("withdrawals", WITHDRAWAL)
            await settled(client)
            await end()
            assert await client.end() == (4401, "invalid_api_key")

    await asyncio.gather(end_of(issued.secret, let_its_hour_pass), end_of(stage.tokens["bob"], revoke))
