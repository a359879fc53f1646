"""Adjustments over HTTP: two people, one posting, the books in balance, and every way around the second person shut."""

from __future__ import annotations

import asyncio
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from custody.adjustments.transitions import ADJUSTMENTS
from custody.identity import service as identity
from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import CustomerId, parse_id
from custody.switches.model import of_customer
from tests.fakes.event_schemas import broken_promises
from tests.integration.api_harness import XLM, Harness
from tests.integration.switch_stage import resume, stop

NOTE = {"note": "Checked against the bank's letter."}
MOVES = {
    ("proposed", "confirm"): "posted",
    ("proposed", "reject"): "rejected",
    ("proposed", "withdraw"): "withdrawn",
}


@pytest.mark.parametrize("event", ["confirm", "reject", "withdraw"])
@pytest.mark.parametrize("state", ["proposed", "posted", "rejected", "withdrawn"])
def test_each_event_in_each_state(state: str, event: str) -> None:
    if (state, event) in MOVES:
        assert ADJUSTMENTS.target(state, event) == MOVES[state, event]
    else:
        with pytest.raises(IllegalTransition):
            ADJUSTMENTS.target(state, event)


@pytest.fixture
async def second(shared_api: Harness) -> str:
    """Scope label of a second operator's key."""
    tenant = shared_api.tenant
    if "second" not in tenant.keys:
        async with shared_api.app.db.unit_of_work(tenant.id) as uow:
            tenant.keys["second"] = (await identity.issue_api_key(uow, "bob", ("read", "operate"))).secret
            tenant.keys["again"] = (
                await identity.issue_api_key(uow, "acme-operate", ("read", "operate"))
            ).secret
    return "second"


async def propose(api: Harness, direction: str = "credit", amount: str = "500", **change: str) -> str:
    body = {
        "wallet_id": api.tenant.empty_wallet,
        "direction": direction,
        "asset": XLM.text,
        "amount": amount,
        "reason": "correction",
        "evidence": "ticket 7421",
    }
    made = await api.post("/v1/adjustments", body | change, scope="operate")
    assert made.status_code == 201, made.text
    assert made.json()["state"] == "proposed"
    return str(made.json()["id"])


async def held(api: Harness) -> int:
    rows = (await api.get(f"/v1/wallets/{api.tenant.empty_wallet}/balances")).json()["data"]
    return sum(int(row["posted"]) for row in rows if row["asset"] == XLM.text)


async def test_nothing_moves_before_a_second_person_confirms(shared_api: Harness, second: str) -> None:
    api, before = shared_api, await held(shared_api)
    wanted = await propose(api)
    assert await held(api) == before
    own = await api.post(f"/v1/adjustments/{wanted}/confirm", NOTE, scope="operate")
    other_key = await api.post(f"/v1/adjustments/{wanted}/confirm", NOTE, scope="again")
    assert [(each.status_code, each.json()["code"]) for each in (own, other_key)] == [
        (403, "second_person_needed")
    ] * 2
    done = await api.post(f"/v1/adjustments/{wanted}/confirm", NOTE, scope=second, key="confirm-1")
    again = await api.post(f"/v1/adjustments/{wanted}/confirm", NOTE, scope=second, key="confirm-1")
    assert (done.status_code, done.json()["state"], done.json()["decided_by"]) == (200, "posted", "bob")
    assert (again.content, again.headers["idempotency-replayed"]) == (done.content, "true")
    assert await held(api) == before + 500
    late = await api.post(f"/v1/adjustments/{wanted}/reject", NOTE, scope=second)
    assert (late.status_code, late.json()["code"]) == (409, "illegal_transition")
    shown = (await api.get(f"/v1/adjustments/{wanted}")).json()
    assert (shown["proposed_by"], shown["evidence"], shown["note"]) == (
        "acme-operate",
        "ticket 7421",
        NOTE["note"],
    )


async def test_of_many_who_confirm_one_posts(shared_api: Harness, second: str) -> None:
    api, before = shared_api, await held(shared_api)
    wanted = await propose(api, amount="7")
    answers = await asyncio.gather(
        *(api.post(f"/v1/adjustments/{wanted}/confirm", NOTE, scope=second) for _ in range(6))
    )
    assert sorted(each.status_code for each in answers) == [200, 409, 409, 409, 409, 409]
    assert await held(api) == before + 7


async def test_a_debit_never_takes_more_than_is_free_and_stays_proposed(
    shared_api: Harness, second: str
) -> None:
    api, before = shared_api, await held(shared_api)
    wanted = await propose(api, "debit", str(before + 10**12))
    refused = await api.post(f"/v1/adjustments/{wanted}/confirm", NOTE, scope=second)
    assert (refused.status_code, refused.json()["code"]) == (422, "insufficient_funds")
    assert (await api.get(f"/v1/adjustments/{wanted}")).json()["state"] == "proposed"
    assert await held(api) == before
    given_up = await api.post(f"/v1/adjustments/{wanted}/withdraw", NOTE, scope=second)
    assert given_up.json()["code"] == "proposer_needed"
    own = await api.post(f"/v1/adjustments/{wanted}/withdraw", NOTE, scope="operate")
    assert (own.status_code, own.json()["state"]) == (200, "withdrawn")


async def test_what_a_switch_stops_stays_proposed_until_it_goes_on(shared_api: Harness, second: str) -> None:
    api, before = shared_api, await held(shared_api)
    given, taken = await propose(api, amount="5"), await propose(api, "debit", "5")
    customer = of_customer(CustomerId(parse_id("cus", api.tenant.customer)))
    stopped = await stop(api.app.db, api.tenant.id, customer)
    done = await api.post(f"/v1/adjustments/{given}/confirm", NOTE, scope=second)
    refused = await api.post(f"/v1/adjustments/{taken}/confirm", NOTE, scope=second)
    assert [done.json()["state"], refused.json()["code"]] == ["posted", "stopped_by_switch"]
    assert await held(api) == before + 5
    await resume(api.app.db, stopped, api.tenant.id)
    gone_on = await api.post(f"/v1/adjustments/{taken}/confirm", NOTE, scope=second)
    assert (gone_on.json()["state"], await held(api)) == ("posted", before)


async def test_what_is_told_keeps_its_promise_and_audit_names_both_people(
    shared_api: Harness, second: str
) -> None:
    api = shared_api
    wanted = await propose(api, amount="3")
    await api.post(f"/v1/adjustments/{wanted}/reject", NOTE, scope=second)
    assert await broken_promises(api.app.db, api.tenant.id) == []
    named = str(UUID(hex=wanted.removeprefix("adj_")))
    entries, cursor = [], None
    while True:
        query = {"limit": "100"} | ({} if cursor is None else {"cursor": cursor})
        page = (await api.get("/v1/audit-events", **query)).json()
        entries += [entry for entry in page["data"] if entry["object_id"] == named]
        if (cursor := page["next_cursor"]) is None:
            break
    assert [(entry["actor"], entry["action"]) for entry in entries] == [
        ("acme-operate", "adjustment.propose"),
        ("bob", "adjustment.reject"),
    ]
    listed = (await api.get("/v1/adjustments", state="rejected")).json()["data"]
    assert wanted in [row["id"] for row in listed]


@pytest.mark.parametrize(
    "change",
    ["state = 'posted', decided_by = proposed_by", "state = 'withdrawn', decided_by = 'eve'", "amount = 1"],
)
async def test_the_database_too_wants_another_person_and_no_other_amount(
    shared_api: Harness, change: str
) -> None:
    await propose(shared_api)
    with pytest.raises(DBAPIError):
        async with shared_api.app.db.unit_of_work(shared_api.tenant.id) as uow:
            await uow.conn.execute(
                text(f"UPDATE adjustments SET {change}, decided_at = now(), booked_at = now()")
            )


async def test_another_tenants_adjustment_is_not_there(shared_api: Harness) -> None:
    wanted = await propose(shared_api)
    answer = await shared_api.get(f"/v1/adjustments/{wanted}", tenant=shared_api.other)
    assert answer.status_code == 404
