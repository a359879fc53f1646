"""A withdrawal that the receiver's account could not take is refused before anybody is asked to approve it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from custody.db.session import Database
from tests.fakes.ready_receivers import ReadyReceivers
from tests.integration.api_harness import STELLAR, STRANGER, Harness, running

ASKED = {"asset": f"{STELLAR}/native", "amount": "1000", "destination": STRANGER}


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


def desk(api: Harness) -> ReadyReceivers:
    found = api.app.clients[STELLAR]
    assert isinstance(found, ReadyReceivers)
    return found


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"exists": False}, "below_reserve"),
        ({"memo_required": True}, "memo_required"),
        ({"trusts": False, "authorized": False, "room": 0}, "trustline_missing"),
        ({"authorized": False}, "trustline_unauthorized"),
        ({"room": 999}, "destination_full"),
    ],
)
async def test_each_reason_has_its_code_and_holds_nothing(
    api: Harness, admin_dsn: str, changes: dict[str, Any], code: str
) -> None:
    desk(api).tell(**changes)
    before = await api.row_counts(admin_dsn)
    answer = await api.post("/v1/withdrawals", ASKED | {"wallet_id": api.tenant.wallet})
    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert await api.row_counts(admin_dsn) == before


async def test_native_money_opens_a_missing_account_and_approvers_see_it_but_a_memo_cannot_go_along(
    api: Harness,
) -> None:
    desk(api).tell(exists=False)
    large = ASKED | {"wallet_id": api.tenant.wallet, "amount": "10000000"}
    with_memo = large | {"memo": {"type": "id", "value": "7"}}
    answer = await api.post("/v1/withdrawals", with_memo)
    assert (answer.status_code, answer.json()["code"]) == (422, "destination_missing")
    made = await api.post("/v1/withdrawals", large)
    assert made.status_code == 201
    shown = (await api.get(f"/v1/approvals/{made.json()['id']}", scope="approve")).json()
    assert shown["fields"]["kind"] == "stellar_create_account"


async def test_a_memo_satisfies_who_asks_for_one(api: Harness) -> None:
    desk(api).tell(memo_required=True)
    asked = ASKED | {"wallet_id": api.tenant.wallet, "memo": {"type": "id", "value": "7"}}
    assert (await api.post("/v1/withdrawals", asked)).status_code == 201


async def test_a_node_that_does_not_answer_is_no_refusal_and_a_recorded_answer_needs_no_node(
    api: Harness,
) -> None:
    asked = ASKED | {"wallet_id": api.tenant.wallet}
    desk(api).reachable = False
    answer = await api.post("/v1/withdrawals", asked, key="one")
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)
    desk(api).reachable = True
    made = await api.post("/v1/withdrawals", asked, key="one")
    assert made.status_code == 201
    desk(api).reachable = False
    again = await api.post("/v1/withdrawals", asked, key="one")
    assert again.json() == made.json()
    assert desk(api).asked == 2
