"""Many transfers in one request: each answered by itself, groups together, the same answers however often it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from api.main import build_poster
from custody.audit import service as audit
from custody.db.session import Database
from custody.kernel.ids import CustomerId, parse_id, show_id
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import OpenAccount
from custody.ledger.poster import Bounds
from custody.switches.model import Place, Scope, of_customer
from tests.integration.api_harness import FUNDS, XLM, Harness, running
from tests.integration.locks import hold_the_ledger, until_someone_waits
from tests.integration.switch_stage import resume, stop

PATH = "/v1/transfers/bulk"


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        poster = harness.asgi.state.poster
        yield harness
        harness.asgi.state.poster = poster  # that which runs, whatever a test has put there


def line(api: Harness, amount: int | str, *, back: bool = False, **more: str) -> dict[str, str]:
    """From the wallet that has money to the one that has none, or back."""
    ends = (api.tenant.wallet, api.tenant.empty_wallet)
    source, destination = reversed(ends) if back else ends
    return {
        "from_wallet_id": source,
        "to_wallet_id": destination,
        "asset": XLM.text,
        "amount": str(amount),
        **more,
    }


def codes(answer: dict[str, Any]) -> list[str | None]:
    return [each["code"] for each in answer["data"]]


async def balance(api: Harness, shown: str) -> int:
    async with api.app.db.read(api.tenant.id) as session:
        return (await ledger.balance(session, postings.wallet_account(parse_id("wal", shown), XLM))).posted


async def test_each_transfer_is_answered_by_itself_and_in_order(api: Harness) -> None:
    lines = [line(api, 5), line(api, 100, back=True), line(api, FUNDS), line(api, 3, back=True)]
    answer = await api.post(PATH, {"transfers": lines})
    assert answer.status_code == 200
    body = answer.json()
    assert codes(body) == [None, "insufficient_funds", "insufficient_funds", None]
    assert (body["posted"], body["refused"]) == (2, 2)
    assert await balance(api, api.tenant.empty_wallet) == 2
    shown = await api.get(f"/v1/transfers/{body['data'][0]['id']}")
    assert shown.json()["amount"]["atomic"] == "5"
    assert shown.json()["booked_at"] == body["data"][0]["booked_at"]
    assert (await api.get(f"/v1/transfers/{body['data'][1]['id']}")).status_code == 404


async def test_a_group_moves_together_or_not_at_all_wherever_its_parts_stand(api: Harness) -> None:
    lines = [
        line(api, 10, group="a"),
        line(api, 7, group="b"),
        line(api, FUNDS, group="a"),
        line(api, 2, back=True, group="b"),
        line(api, 1),
    ]
    body = (await api.post(PATH, {"transfers": lines})).json()
    assert codes(body) == ["chain_refused", None, "insufficient_funds", None, None]
    assert await balance(api, api.tenant.empty_wallet) == 6


async def test_a_fee_that_cannot_be_paid_refuses_the_transfer(api: Harness) -> None:
    lines = [line(api, FUNDS, fee="1"), line(api, FUNDS - 1, fee="1")]
    body = (await api.post(PATH, {"transfers": lines})).json()
    assert codes(body) == ["insufficient_funds", None]
    assert await balance(api, api.tenant.wallet) == 0


async def test_the_same_key_and_body_give_the_same_answers_also_refusals(api: Harness) -> None:
    body = {"transfers": [line(api, 5), line(api, 100, back=True), line(api, 1, group="g")]}
    first = await api.post(PATH, body, key="import-1")
    await api.post(PATH, {"transfers": [line(api, 500)]})
    again = await api.post(PATH, body, key="import-1")
    assert again.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert await balance(api, api.tenant.empty_wallet) == 506
    other = await api.post(PATH, {"transfers": [line(api, 6)]}, key="import-1")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_twenty_callers_with_one_key_move_the_money_once(api: Harness) -> None:
    body, key = {"transfers": [line(api, n) for n in range(1, 11)]}, uuid4().hex
    answers = await asyncio.gather(*(api.post(PATH, body, key=key) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert await balance(api, api.tenant.empty_wallet) == 55


async def test_what_ended_between_acceptance_and_posting_is_finished_by_the_next_attempt(
    api: Harness,
) -> None:
    body = {"transfers": [line(api, 5), line(api, 6)]}
    api.asgi.state.poster.stop()
    refused = await api.post(PATH, body, key="import-2")
    assert (refused.status_code, refused.json()["code"]) == (503, "ledger_stopping")
    assert refused.headers["Retry-After"]
    assert await balance(api, api.tenant.empty_wallet) == 0
    api.asgi.state.poster = build_poster(api.app)
    runner = asyncio.create_task(api.asgi.state.poster.run())
    finished = await api.post(PATH, body, key="import-2")
    api.asgi.state.poster.stop()
    await runner
    assert codes(finished.json()) == [None, None]
    assert await balance(api, api.tenant.empty_wallet) == 11


@pytest.mark.parametrize("scope", [Scope.ASSET, Scope.CUSTOMER])
async def test_what_was_accepted_before_a_stop_waits_behind_it_and_is_posted_once_when_it_goes_on(
    api: Harness, scope: Scope
) -> None:
    body = {"transfers": [line(api, 5), line(api, 6, group="g"), line(api, 7, group="g", fee="1")]}
    done = {"transfers": [line(api, 100)]}
    before = await api.post(PATH, done, key="done")
    bulk_id = await accepted_only(api, body, "import-7")
    where = Place(Scope.ASSET, XLM.text)
    if scope is Scope.CUSTOMER:
        where = of_customer(CustomerId(parse_id("cus", api.tenant.customer)))
    stopped = await stop(api.app.db, api.tenant.id, where)
    waits = await api.post(PATH, body, key="import-7")
    assert (waits.status_code, codes(waits.json())) == (200, ["stopped_by_switch"] * 3)
    assert [waits.json()[each] for each in ("posted", "refused", "waiting")] == [0, 0, 3]
    assert (await api.get(f"{PATH}/{bulk_id}")).json() == waits.json()
    assert await balance(api, api.tenant.empty_wallet) == 100
    # What was posted before the stop is answered as it was.
    assert (await api.post(PATH, done, key="done")).json() == before.json()
    await resume(api.app.db, stopped, api.tenant.id)
    shown = (await api.get(f"{PATH}/{bulk_id}")).json()
    assert [(each["status"], each["code"]) for each in shown["data"]] == [("waiting", None)] * 3
    again = [await api.post(PATH, body, key="import-7") for _ in range(2)]
    assert again[0].json() == again[1].json() == (await api.get(f"{PATH}/{bulk_id}")).json()
    assert codes(again[0].json()) == [None] * 3
    assert await balance(api, api.tenant.empty_wallet) == 118


async def test_a_stop_in_the_middle_holds_for_all_that_was_not_posted_yet(api: Harness) -> None:
    """The first batch waits for the ledger with the switches in hand, the stop for that batch, the next batch for the stop."""
    body = {"transfers": [line(api, 1) for _ in range(12)]}
    poster, few = api.asgi.state.poster, build_poster(api.app, Bounds(batch=4, bulk=4))
    api.asgi.state.poster = few
    async with asyncio.TaskGroup() as group, asyncio.timeout(20):
        group.create_task(few.run())
        async with api.app.db.unit_of_work(api.tenant.id) as uow:
            await hold_the_ledger(uow)
            asking = group.create_task(api.post(PATH, body, key="import-8"))
            await until_someone_waits(api.app.db, 1)
            stopping = group.create_task(stop(api.app.db, api.tenant.id, Place(Scope.CHAIN, XLM.chain)))
            await until_someone_waits(api.app.db, 2)
        answer, stopped = (await asking).json(), await stopping
        few.stop()
    api.asgi.state.poster = poster
    assert codes(answer) == [None] * 4 + ["stopped_by_switch"] * 8
    assert (answer["posted"], answer["waiting"]) == (4, 8)
    assert await balance(api, api.tenant.empty_wallet) == 4
    await resume(api.app.db, stopped, api.tenant.id)
    rest = (await api.post(PATH, body, key="import-8")).json()
    assert codes(rest) == [None] * 12
    assert rest["data"][:4] == answer["data"][:4]
    assert await balance(api, api.tenant.empty_wallet) == 12


async def accepted_only(api: Harness, body: dict[str, Any], key: str) -> str:
    """Have a request accepted by a process that ends before it posts. Returns the request's id."""
    poster, ending = api.asgi.state.poster, build_poster(api.app)
    ending.stop()
    api.asgi.state.poster = ending
    refused = await api.post(PATH, body, key=key)
    api.asgi.state.poster = poster
    assert refused.json()["code"] == "ledger_stopping"
    async with api.app.db.read(api.tenant.id) as session:
        rows = await session.conn.exec_driver_sql(
            "SELECT id FROM bulk_transfers ORDER BY created_at DESC LIMIT 1"
        )
    return show_id("blk", rows.scalar_one())


async def test_a_key_of_a_bulk_request_serves_no_other_kind_of_request(api: Harness) -> None:
    await api.post(PATH, {"transfers": [line(api, 5)]}, key="import-4")
    single = await api.post("/v1/transfers", line(api, 5), key="import-4")
    assert (single.status_code, single.json()["code"]) == (422, "idempotency_key_reused")
    await api.post("/v1/transfers", line(api, 5), key="single-4")
    many = await api.post(PATH, {"transfers": [line(api, 5)]}, key="single-4")
    assert (many.status_code, many.json()["code"]) == (422, "idempotency_key_reused")
    assert await balance(api, api.tenant.empty_wallet) == 10


async def test_what_was_turned_away_for_a_full_queue_is_finished_by_the_next_attempt(api: Harness) -> None:
    body = {"transfers": [line(api, n) for n in (5, 6, 7)]}
    before, full = api.asgi.state.poster, build_poster(api.app, Bounds(queued=2))
    key = postings.wallet_account(parse_id("wal", api.tenant.wallet), XLM)
    waiting = asyncio.create_task(full.submit(api.tenant.id, OpenAccount(key=key)))
    await asyncio.sleep(0)
    api.asgi.state.poster = full
    refused = await api.post(PATH, body, key="import-5")
    assert (refused.status_code, refused.json()["code"]) == (503, "ledger_overloaded")
    assert await balance(api, api.tenant.empty_wallet) == 0
    waiting.cancel()
    api.asgi.state.poster = before
    assert codes((await api.post(PATH, body, key="import-5")).json()) == [None] * 3
    assert await balance(api, api.tenant.empty_wallet) == 18


@pytest.mark.parametrize("pause_s", [0, 0.002, 0.005, 0.01, 0.02, 0.05])
async def test_a_caller_that_leaves_at_any_moment_and_asks_again_moves_the_money_once(
    api: Harness, pause_s: float
) -> None:
    body = {"transfers": [line(api, n) for n in range(1, 31)]}
    asking = asyncio.create_task(api.post(PATH, body, key="import-6"))
    await asyncio.sleep(pause_s)
    asking.cancel()
    await asyncio.wait([asking])
    assert codes((await api.post(PATH, body, key="import-6")).json()) == [None] * 30
    assert await balance(api, api.tenant.empty_wallet) == 465


async def test_who_asked_is_audited_once(api: Harness) -> None:
    for _ in range(2):
        await api.post(PATH, {"transfers": [line(api, 5)] * 3}, key="import-3")
    async with api.app.db.read(api.tenant.id) as session:
        entries = await audit.page(session, 0, 1000)
        await audit.verify(session)
    asked = [entry for entry in entries if entry.action == "transfer.bulk_request"]
    assert [(entry.actor, entry.detail) for entry in asked] == [("acme-all", {"transfers": 3})]


@pytest.mark.parametrize(
    ("wrong", "status", "code"),
    [
        ({"amount": "0"}, 422, "amount_not_positive"),
        ({"amount": "1.5"}, 422, "malformed_amount"),
        ({"amount": "-1"}, 422, "amount_not_positive"),
        (
            {"asset": "stellar:devnet/NONE:GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"},
            422,
            "unknown_asset",
        ),
        ({"from_wallet_id": "wal_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"}, 404, "unknown_wallet"),
        ({"from_wallet_id": "cus_0192f0a81c7a7d10b5b0c8e6f7a1d2c3"}, 422, "malformed_id"),
        ({"group": "a b"}, 422, "invalid_input"),
        ({"colour": "red"}, 422, "invalid_input"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
async def test_one_wrong_line_refuses_the_whole_request_and_changes_nothing(
    api: Harness, admin_dsn: str, wrong: dict[str, str], status: int, code: str
) -> None:
    before = await api.row_counts(admin_dsn)
    answer = await api.post(PATH, {"transfers": [line(api, 1), line(api, 1) | wrong]})
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert await api.row_counts(admin_dsn) == before


async def test_another_tenants_wallet_is_unknown_and_too_many_or_none_are_refused(api: Harness) -> None:
    foreign = await api.post(PATH, {"transfers": [line(api, 1) | {"to_wallet_id": api.other.wallet}]})
    assert (foreign.status_code, foreign.json()["code"]) == (404, "unknown_wallet")
    assert (await api.post(PATH, {"transfers": []})).status_code == 422
    read_only = await api.post(PATH, {"transfers": [line(api, 1)]}, scope="read")
    assert read_only.status_code == 403
