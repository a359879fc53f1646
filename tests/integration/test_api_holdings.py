"""What operators read of holdings, comparisons and breaks, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from custody.db.session import Database
from custody.holdings import service as holdings
from custody.holdings.model import (
    AccountDatum,
    AccountSigner,
    AccountState,
    BlockPlace,
    HoldingState,
    TouchedHolding,
    TransactionEffect,
)
from custody.kernel.ids import VaultId, parse_id
from tests.integration.api_harness import FUNDS, STELLAR, STRANGER, XLM, Harness, running

READ = """
query ($vault: ID!, $asset: String!) {
  holdings(vaultId: $vault) { asset present amount selling limit authorization clawback opening height }
  holdingComparisons(vaultId: $vault, asset: $asset, first: 1) {
    edges { node { height books opening onChain difference } } pageInfo { hasNextPage endCursor } }
  open: holdingBreaks(state: OPEN) { edges { node {
    id state vaultId asset firstHeight firstTx closedHeight found { books onChain difference } } } }
  closed: holdingBreaks(state: CLOSED) { edges { node { id closedHeight } } }
  vaultAccount(vaultId: $vault) { height sequence minimum spendable signers { key weight sponsor } memoRequired }
}
"""
SERIES = """
query ($v: ID!, $a: String!, $c: String) {
  holdingComparisons(vaultId: $v, asset: $a, after: $c) { edges { node { height } } }
}
"""


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def observe(api: Harness, height: int, before: int, amount: int, booked: int) -> None:
    """A ledger that left the vault's lumens so, of which we book so much; final at once."""
    vault = VaultId(parse_id("vlt", api.tenant.vault))
    place = BlockPlace(chain=STELLAR, height=height, closed_at=datetime(2026, 1, 1, tzinfo=UTC))
    state = HoldingState(account="G", asset=XLM, exists=True, before=before, amount=amount)
    effect = TransactionEffect(tx_hash=f"{height:064x}", chain=amount - before, books=booked)
    account = AccountState(
        account="G",
        exists=True,
        sequence=2**60,
        minimum=10**7,
        spendable=amount - 10**7,
        signers=(AccountSigner(key=STRANGER, weight=1, sponsor=None),),
    )
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await holdings.record(
            uow,
            place,
            holdings=[TouchedHolding(vault_id=vault, state=state, effects=(effect,))],
            accounts=[(vault, account)],
            data=[(vault, AccountDatum(account="G", name="config.memo_required", value=b"1"))],
        )
        await holdings.compare_final(uow, STELLAR, height_before=height - 1, height_final=height)


async def test_a_break_is_shown_with_its_transaction_and_the_series_of_both_sides(api: Harness) -> None:
    # The harness booked funds before any ledger was read: they are what the books had, and no opening is left.
    await observe(api, 10, FUNDS, FUNDS, 0)
    await observe(api, 20, FUNDS, FUNDS - 7, 0)
    answer = await api.graphql(READ, vault=api.tenant.vault, asset=XLM.text)
    assert "errors" not in answer
    data = answer["data"]
    assert data["holdings"] == [
        {
            "asset": XLM.text,
            "present": True,
            "amount": str(FUNDS - 7),
            "selling": "0",
            "limit": None,
            "authorization": "full",
            "clawback": False,
            "opening": "0",
            "height": "20",
        }
    ]
    (newest,) = data["holdingComparisons"]["edges"]
    assert newest["node"] == {
        "height": "20",
        "books": str(FUNDS),
        "opening": "0",
        "onChain": str(FUNDS - 7),
        "difference": "7",
    }
    assert data["holdingComparisons"]["pageInfo"]["hasNextPage"]
    (found,) = [edge["node"] for edge in data["open"]["edges"]]
    assert found.pop("id").startswith("brk_")
    assert found == {
        "state": "open",
        "vaultId": api.tenant.vault,
        "asset": XLM.text,
        "firstHeight": "20",
        "firstTx": f"{20:064x}",
        "closedHeight": None,
        "found": {"books": str(FUNDS), "onChain": str(FUNDS - 7), "difference": "7"},
    }
    assert data["vaultAccount"] == {
        "height": "20",
        "sequence": str(2**60),
        "minimum": str(10**7),
        "spendable": str(FUNDS - 7 - 10**7),
        "signers": [{"key": STRANGER, "weight": 1, "sponsor": None}],
        "memoRequired": True,
    }
    await observe(api, 30, FUNDS - 7, FUNDS, 0)
    data = (await api.graphql(READ, vault=api.tenant.vault, asset=XLM.text))["data"]
    assert data["open"]["edges"] == []
    assert [edge["node"]["closedHeight"] for edge in data["closed"]["edges"]] == ["30"]
    after = data["holdingComparisons"]["pageInfo"]["endCursor"]
    rest = await api.graphql(SERIES, v=api.tenant.vault, a=XLM.text, c=after)
    assert [edge["node"]["height"] for edge in rest["data"]["holdingComparisons"]["edges"]] == ["20", "10"]


async def test_another_tenant_sees_nothing_of_it(api: Harness) -> None:
    await observe(api, 10, FUNDS, FUNDS, 0)
    await observe(api, 20, FUNDS, FUNDS - 7, 0)
    answer = await api.graphql(READ, tenant=api.other, vault=api.tenant.vault, asset=XLM.text)
    data = answer["data"]
    assert (data["holdings"], data["vaultAccount"]) == ([], None)
    assert [data[name]["edges"] for name in ("open", "closed", "holdingComparisons")] == [[], [], []]
