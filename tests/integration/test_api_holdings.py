"""What operators read of holdings, comparisons and breaks, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from cli.continuous import print_states, read_states, show_states
from custody.assets import service as assets
from custody.db.session import Database
from custody.deposits import service as deposits
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
from tests.integration.api_harness import ETH, FUNDS, STELLAR, STRANGER, XLM, Harness, running

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
STANDING = """
{ holdingBreaks(state: OPEN) { edges { node { differenceNow first { txHash movement onChain inBooks } } } }
  reconciliation { asset stopsPayments threshold } }
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


async def series(api: Harness, **query: str) -> Any:
    return (await api.get(f"/v1/reconciliation/{api.tenant.vault}/{XLM.text}/series", **query)).json()


async def break_and_mend(api: Harness) -> None:
    """Equal, then seven stroops gone and back, then equal with more."""
    await settle_at(api, 10, FUNDS, FUNDS, 0)
    await settle_at(api, 20, FUNDS, FUNDS - 7, 0)
    await settle_at(api, 30, FUNDS - 7, FUNDS, 0)


async def settle_at(api: Harness, height: int, before: int, amount: int, booked: int) -> None:
    await observe(api, height, before, amount, booked)
    async with api.app.db.unit_of_work(api.tenant.id) as uow:
        await deposits.record_heights(
            uow,
            STELLAR,
            height_final=height,
            height_ingested=height,
            ingested_at=datetime(2026, 1, 1, tzinfo=UTC),
        )


async def test_a_vault_shows_how_it_stands_and_what_a_difference_stops(api: Harness) -> None:
    await settle_at(api, 10, FUNDS, FUNDS, 0)
    (row,) = (await api.get("/v1/reconciliation")).json()["data"]
    assert (row["state"], row["height"], row["difference"], row["found"]) == ("equal", "10", "0", None)
    assert (await api.get("/v1/reconciliation", which="broken")).json()["data"] == []
    await settle_at(api, 20, FUNDS, FUNDS - 7, 0)
    (row,) = (await api.get("/v1/reconciliation", which="broken")).json()["data"]
    assert (row["state"], row["difference"], row["stops_payments"]) == ("broken", "7", True)
    first = {"tx_hash": f"{20:064x}", "movement": "transaction", "on_chain": "-7", "in_books": "0"}
    assert (row["found"]["first"], row["found"]["difference_now"]) == (first, "7")
    rule = {"asset": XLM.text, "threshold": "7", "note": "rounding of the issuer"}
    assert (await api.post("/v1/stop-rules", rule, scope="write")).status_code == 403
    answers = [await api.post("/v1/stop-rules", rule, scope="operate") for _ in range(2)]
    assert [each.json()["version"] for each in answers] == [1, 1]
    (row,) = (await api.get("/v1/reconciliation", which="standing")).json()["data"]
    assert (row["threshold"], row["stops_payments"]) == ("7", False)
    (rule_in_force,) = (await api.get("/v1/stop-rules")).json()["data"]
    assert rule_in_force["set_by"] == "acme-operate"
    shown = await api.graphql(STANDING)
    (found,) = shown["data"]["holdingBreaks"]["edges"]
    assert found["node"] == {
        "differenceNow": "7",
        "first": {"txHash": f"{20:064x}", "movement": "transaction", "onChain": "-7", "inBooks": "0"},
    }
    assert shown["data"]["reconciliation"][0]["stopsPayments"] is False
    states = {api.tenant.id: await read_states(api.app.db, api.tenant.id)}
    (line,) = show_states(states)
    assert (line["difference"], line["first_movement"], line["stops_payments"]) == ("7", "transaction", False)
    console = Console(record=True, width=200)
    async with api.app.db.read(None) as session:
        listed = {asset.id: asset for asset in await assets.list_assets(session)}
    print_states(states, listed, console)
    assert (
        f"first transaction in {20:064x}, block 20: chain -0.0000007, books 0.0000000"
        in console.export_text()
    )
    assert (await api.get("/v1/reconciliation", tenant=api.other)).json()["data"] == []


async def test_a_series_is_exact_while_it_fits_and_sampled_with_its_breaks_where_not(api: Harness) -> None:
    await break_and_mend(api)
    await settle_at(api, 31, FUNDS, FUNDS, 0)
    whole = await series(api)
    told = [(each["height"], each["books"], each["on_chain"]) for each in whole["points"]]
    assert told == [
        ("10", str(FUNDS), str(FUNDS)),
        ("20", str(FUNDS), str(FUNDS - 7)),
        ("30", str(FUNDS), str(FUNDS)),
    ]
    assert (whole["exact"], whole["height_from"], whole["height_to"]) == (True, "10", "31")
    assert [(each["height"], each["closed_height"]) for each in whole["breaks"]] == [("20", "30")]
    sampled = await series(api, points="2")
    assert (sampled["exact"], [each["height"] for each in sampled["points"]]) == (False, ["10", "20", "30"])
    later = await series(api, height_from="25")
    assert [each["height"] for each in later["points"]] == ["20", "30"]
    path = f"/v1/reconciliation/{api.tenant.vault}/{ETH.text}/series"
    assert (await api.get(path)).json()["code"] == "never_compared"
    other = await api.get(path.replace(ETH.text, XLM.text), tenant=api.other)
    assert (other.status_code, other.json()["code"]) == (404, "unknown_vault")
