"""Lists by REST and by GraphQL: in both orders, narrowed, by pages; and every one of them walks an index."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, text

from custody.audit import service as audit
from custody.db.session import Database, ReadSession
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.model import ObservedTransfer
from custody.events import feed
from custody.kernel.ids import (
    CaseId,
    DepositId,
    PayoutId,
    VaultId,
    WalletId,
    WithdrawalId,
    new_uuid,
    parse_id,
)
from custody.payouts import service as payouts
from custody.switches import service as switches
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from custody.withdrawals import batches
from custody.withdrawals import service as withdrawals
from tests.fakes.finality import credit_final
from tests.integration.api_harness import STELLAR, STRANGER, XLM, Harness, running
from tests.postgres import Cluster


@pytest.fixture(scope="module")
async def api(cluster: Cluster) -> AsyncIterator[Harness]:
    """Read by all tests of this file: three deposits, of which two are credited; three withdrawals, one of them cancelled."""
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=10)
    async with running(database) as harness:
        tenant = harness.tenant
        issued = (
            await harness.post(f"/v1/wallets/{tenant.empty_wallet}/addresses", {"chain": STELLAR})
        ).json()
        vault = VaultId(parse_id("vlt", tenant.vault))
        async with database.unit_of_work(tenant.id) as uow:
            ref = VaultRef(
                tenant=tenant.id, vault_id=vault, account=(await wallets.get_vault(uow, vault)).account
            )
            for height in (7, 8, 9):
                arrival = ObservedTransfer(
                    chain=STELLAR,
                    height=height,
                    block_hash=f"b{height}",
                    tx_hash=f"t{height}",
                    ordinal=1,
                    asset=XLM,
                    source=STRANGER,
                    account=issued["account"],
                    tag=int(issued["memo"]),
                    amount=height,
                    occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
                )
                await deposits.observe(uow, ref, arrival)
            await credit_final(uow, STELLAR, 8)
        ask = {"wallet_id": tenant.wallet, "asset": XLM.text, "destination": STRANGER}
        made = [
            (await harness.post("/v1/withdrawals", {**ask, "amount": amount})).json()["id"]
            for amount in ("1", "2", "3")
        ]
        assert (await harness.post(f"/v1/withdrawals/{made[1]}/cancel", {})).status_code == 200
        yield harness
    await database.close()
    await cluster.release(name)


async def pages(api: Harness, path: str, **query: str) -> list[dict[str, Any]]:
    """All rows of a list, two a page."""
    rows: list[dict[str, Any]] = []
    asked = {**query, "limit": "2"}
    while True:
        answer = await api.http.get(path, params=asked, headers=api.headers())
        assert answer.status_code == 200, answer.text
        rows += answer.json()["data"]
        if answer.json()["next_cursor"] is None:
            return rows
        asked["cursor"] = answer.json()["next_cursor"]


async def edges(api: Harness, field: str, arguments: str, shown: str) -> list[dict[str, Any]]:
    """The same by GraphQL."""
    rows: list[dict[str, Any]] = []
    after = None
    while True:
        page_of = f"edges {{ node {{ {shown} }} }} pageInfo {{ hasNextPage endCursor }}"
        query = f"query ($after: String) {{ {field}({arguments}, first: 2, after: $after) {{ {page_of} }} }}"
        page = (await api.graphql(query, after=after))["data"][field]
        rows += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            return rows
        after = page["pageInfo"]["endCursor"]


@contextmanager
def statements(database: Database) -> Iterator[list[tuple[str, Any]]]:
    """What is said to the database meanwhile, with its parameters."""
    said: list[tuple[str, Any]] = []

    def note(conn: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        said.append((statement, parameters))

    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield said
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)


@pytest.mark.parametrize(
    ("path", "of", "state", "many"),
    [("deposits", "empty_wallet", "credited", 3), ("withdrawals", "wallet", "awaiting_approval", 3)],
)
async def test_a_list_is_walked_both_ways_and_narrowed(
    api: Harness, path: str, of: str, state: str, many: int
) -> None:
    url, wallet = f"/v1/{path}", getattr(api.tenant, of)
    oldest = await pages(api, url)
    assert len(oldest) == many
    assert await pages(api, url, order="newest_first") == oldest[::-1]
    assert await pages(api, url, wallet_id=wallet) == oldest
    assert await pages(api, url, wallet_id=api.other.wallet) == []
    in_state = await pages(api, url, state=state, order="newest_first")
    assert in_state == [row for row in oldest[::-1] if row["state"] == state] != oldest[::-1]
    ids = [{"id": row["id"]} for row in oldest]
    assert await edges(api, path, "order: OLDEST_FIRST", "id") == ids
    assert await edges(api, path, "order: NEWEST_FIRST", "id") == ids[::-1]
    narrowed = await edges(api, path, f'walletId: "{wallet}", state: "{state}"', "id")
    assert narrowed == [{"id": row["id"]} for row in in_state[::-1]]


async def test_a_filter_that_means_nothing_is_refused_at_its_place(api: Harness) -> None:
    forward = (await api.get("/v1/deposits", limit="1")).json()["next_cursor"]
    for asked, code in (
        ({"state": "lost"}, "unknown_filter"),
        ({"wallet_id": "wal_1"}, "malformed_id"),
        ({"order": "newest_first", "cursor": forward}, "malformed_cursor"),
    ):
        answer = await api.http.get("/v1/deposits", params=asked, headers=api.headers())
        assert (answer.status_code // 100, answer.json()["code"]) == (4, code)
        if code != "malformed_cursor":
            assert answer.json()["errors"][0]["pointer"] == f"query/{next(iter(asked))}"
    for query in ('deposits(state: "lost")', 'payouts(state: "lost")', 'auditEvents(objectId: "x")'):
        assert (await api.graphql(f"{{ {query} {{ pageInfo {{ endCursor }} }} }}"))["errors"]


async def test_one_deposit_is_found_by_its_id_by_its_tenant_alone(api: Harness) -> None:
    (first, *_) = await pages(api, "/v1/deposits")
    url = f"/v1/deposits/{first['id']}"
    assert (await api.get(url)).json() == first
    assert first["wallet_id"] == api.tenant.empty_wallet
    assert (first["amount"]["atomic"], first["tx_hash"], first["state"]) == ("7", "t7", "credited")
    assert (await api.get(url, tenant=api.other)).status_code == 404


async def test_a_statement_is_read_from_its_end_as_well(api: Harness) -> None:
    url = f"/v1/wallets/{api.tenant.wallet}/statements/{XLM.text}"
    lines = await pages(api, url)
    assert [line["version"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert (lines[0]["direction"], lines[-1]["direction"]) == ("credit", "debit")
    assert lines[-1]["reserved"]["atomic"] == "4"
    assert await pages(api, url, order="newest_first") == lines[::-1]
    asked = f'walletId: "{api.tenant.wallet}", asset: "{XLM.text}", order: NEWEST_FIRST'
    versions = [line["version"] for line in await edges(api, "statement", asked, "version")]
    assert versions == ["5", "4", "3", "2", "1"]
    for wallet, status in ((api.other.wallet, 404), (api.tenant.empty_wallet, 200)):
        answer = await api.get(f"/v1/wallets/{wallet}/statements/{XLM.text}", order="newest_first")
        assert answer.status_code == status


async def test_records_of_one_object_and_the_customer_of_a_reference_are_found(api: Harness) -> None:
    (first, *_) = await pages(api, "/v1/withdrawals")
    about = f'objectId: "{first["id"]}"'
    forward = await edges(api, "auditEvents", about, "action objectId")
    assert [each["action"] for each in forward] == [
        f"withdrawal.{event}" for event in ("request", "screen", "clear")
    ]
    assert {each["objectId"].replace("-", "") for each in forward} == {first["id"].removeprefix("wdr_")}
    by_uuid = f'objectId: "{forward[0]["objectId"]}", order: NEWEST_FIRST'
    assert await edges(api, "auditEvents", by_uuid, "action objectId") == forward[::-1]
    backward = await edges(api, "auditEvents", "order: NEWEST_FIRST", "sequence")
    assert backward == (await edges(api, "auditEvents", "order: OLDEST_FIRST", "sequence"))[::-1]
    assert await edges(api, "customers", 'externalRef: "ada-acme"', "id") == [{"id": api.tenant.customer}]
    assert await edges(api, "customers", 'externalRef: "ada-rival"', "id") == []
    listed = [row["id"] for row in await pages(api, "/v1/wallets")]
    assert sorted(listed) == sorted([api.tenant.wallet, api.tenant.empty_wallet])


@pytest.mark.parametrize("path", ["approvals", "withdrawals", "deposits"])
async def test_a_page_of_many_takes_as_many_statements_as_a_page_of_one(api: Harness, path: str) -> None:
    counts = []
    for limit in ("1", "1", "50"):  # the first fills what the process remembers
        with statements(api.app.db) as said:
            answer = await api.http.get(f"/v1/{path}", params={"limit": limit}, headers=api.headers())
        assert answer.status_code == 200
        counts.append(len(said))
    assert len(answer.json()["data"]) > 1
    assert counts[1] == counts[2] > 0


ANY = new_uuid()
List = Callable[[ReadSession], Awaitable[object]]
LISTS: dict[str, List] = {
    "deposits": lambda s: deposits.list_deposits(s, after=DepositId(ANY)),
    "deposits back": lambda s: deposits.list_deposits(s, after=DepositId(ANY), newest_first=True),
    "deposits of a wallet": lambda s: deposits.list_deposits(s, wallet_id=WalletId(ANY), newest_first=True),
    "deposits in a state": lambda s: deposits.list_deposits(s, states=("credited",), newest_first=True),
    "withdrawals": lambda s: withdrawals.list_withdrawals(s, WithdrawalId(ANY), 9),
    "withdrawals of a wallet": lambda s: withdrawals.list_withdrawals(s, None, 9, wallet_id=WalletId(ANY)),
    "withdrawals in a state": lambda s: withdrawals.list_withdrawals(
        s, None, 9, states=("settled",), newest_first=True
    ),
    "payouts": lambda s: payouts.list_payouts(s, after=PayoutId(ANY)),
    "payouts of a wallet": lambda s: payouts.list_payouts(s, wallet_id=WalletId(ANY)),
    "payouts in a state": lambda s: payouts.list_payouts(s, states=("settled",), newest_first=False),
    "cases": lambda s: cases.list_cases(s, after=CaseId(ANY)),
    "batches": lambda s: batches.list_batches(s, ANY, 9),
    "switches": lambda s: switches.list_switches(s, standing=False, before=ANY, limit=9),
    "audit": lambda s: audit.page(s, 5, 9),
    "audit back": lambda s: audit.page(s, None, 9, newest_first=True),
    "audit of an object": lambda s: audit.page(s, None, 9, object_id=ANY, newest_first=True),
    "events": lambda s: feed.page(s, after=5, types=(), limit=9),
    "customers": lambda s: wallets.list_customers(s, ANY, 9),
    "wallets": lambda s: wallets.list_wallets(s, ANY, 9),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_list_walks_an_index_in_its_order(api: Harness, name: str) -> None:
    """With sorting and reading whole tables made dear, Postgres does either only where no index answers the question."""
    plans: list[str] = []
    async with api.app.db.read(api.tenant.id) as session:
        for setting in ("enable_sort", "enable_seqscan", "enable_bitmapscan"):
            await session.conn.execute(text(f"SET LOCAL {setting} = off"))

        with statements(api.app.db) as said:
            await LISTS[name](session)
        assert said
        for statement, parameters in said:
            rows = await session.conn.exec_driver_sql("EXPLAIN " + statement, parameters)
            plans.append("\n".join(row[0] for row in rows))
    for plan in plans:
        assert [dear for dear in ("Seq Scan", "Sort") if dear in plan] == [], plan


@pytest.mark.parametrize(
    ("table", "by"),
    [
        (table, by)
        for table, narrowed in (
            ("deposits", ("wallet_id", "state")),
            ("withdrawals", ("wallet_id", "state")),
            ("payouts", ("wallet_id", "state")),
            ("audit_entries", ("object_id",)),
        )
        for by in narrowed
    ],
)
async def test_a_narrowed_list_reads_no_row_to_leave_it_out(api: Harness, table: str, by: str) -> None:
    """Which of several indexes Postgres takes depends on how full a table is; that one leads from the filter to the order does
    not."""
    asked = text("SELECT indexdef FROM pg_indexes WHERE tablename = :table")
    async with api.app.db.read(api.tenant.id) as session:
        found = (await session.conn.execute(asked, {"table": table})).scalars().all()
    assert [each for each in found if each.endswith(f"(tenant_id, {by}, sequence)")], found


async def test_a_reference_that_nobody_can_have_is_refused(api: Harness) -> None:
    listed = await api.get("/v1/customers", external_ref="\0")
    assert (listed.status_code, listed.json()["code"]) == (422, "bad_name")
    assert listed.json()["errors"] == [{"pointer": "query/external_ref", "code": "bad_name"}]
    asked = {"query": r'{ customers(externalRef: "a\u0000") { edges { cursor } } }'}
    answer = await api.http.post("/graphql", json=asked, headers=api.headers("all"))
    assert answer.json()["errors"][0]["extensions"]["code"] == "bad_name"
