"""Mutations for whoever keeps the books in order: corrections with four eyes, batches, bulk, the address book, cases, quotes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import text

from api.main import build_poster
from custody.db.session import Database
from custody.identity import service as identity
from custody.switches.model import Place, Scope
from signer.protocol.approvals import BATCH_TAG
from tests.integration.api_harness import FUNDS, STELLAR, STRANGER, XLM, Harness, running
from tests.integration.graphql_stage import ERRORS, decision, mutate
from tests.integration.locks import hold_the_ledger, until_someone_waits
from tests.integration.switch_stage import resume, stop
from tests.integration.test_api_cases import arrive, queue
from tests.postgres import Cluster


@pytest.fixture(scope="module")
async def api(cluster: Cluster) -> AsyncIterator[Harness]:
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=20)
    async with running(database) as harness:
        tenant = harness.tenant
        async with database.unit_of_work(tenant.id) as uow:
            bob = await identity.issue_api_key(uow, "bob", ("read", "operate"))
        tenant.keys["bob"] = bob.secret
        yield harness
    await database.close()
    await cluster.release(name)


def command(name: str, shown: str, kind: str | None = None) -> str:
    """A document of one mutation."""
    kind = kind or name[0].upper() + name[1:]
    return f"mutation ($input: {kind}Input!) {{ {name}(input: $input) {{ {ERRORS} {shown} }} }}"


def codes(payload: dict[str, Any]) -> list[str]:
    return [each["code"] for each in payload["errors"]]


async def test_one_person_proposes_an_adjustment_and_another_posts_it(api: Harness) -> None:
    wanted = {
        "walletId": api.tenant.empty_wallet,
        "direction": "CREDIT",
        "asset": XLM.text,
        "amount": "7",
        "reason": "CORRECTION",
        "evidence": "ticket 7421",
    }
    propose = command("proposeAdjustment", "adjustment { id state wallet { id } }")
    made = await mutate(api, propose, idempotencyKey="adj", **wanted)
    assert (made["status"], made["adjustment"]["state"]) == ("PENDING", "proposed")
    assert made["adjustment"]["wallet"]["id"] == api.tenant.empty_wallet
    word = {"id": made["adjustment"]["id"], "note": "seen"}

    async def decide(verb: str, by: str, **said: str) -> dict[str, Any]:
        query = command(f"{verb}Adjustment", "adjustment { state decidedBy }", "DecideAdjustment")
        return await mutate(api, query, by, idempotencyKey=f"adj-{verb}", **{**word, **said})

    assert codes(await decide("confirm", "all")) == ["second_person_needed"]
    assert codes(await decide("withdraw", "bob")) == ["proposer_needed"]
    assert codes(await decide("reject", "bob", note="")) == ["too_short"]
    done, again = await decide("confirm", "bob"), await decide("confirm", "bob")
    assert (done["status"], done["adjustment"]) == ("DONE", {"state": "posted", "decidedBy": "bob"})
    assert (again["status"], again["adjustment"]) == ("ALREADY_EXISTS", done["adjustment"])
    assert codes(await decide("reject", "bob")) == ["illegal_transition"]
    listed = await api.graphql(
        """query ($id: ID!) { adjustment(id: $id) { id }
          adjustments(state: "posted") { edges { node { id amount { atomic } } } } }""",
        id=word["id"],
    )
    edges = listed["data"]["adjustments"]["edges"]
    assert [each["node"] for each in edges] == [{"id": word["id"], "amount": {"atomic": "7"}}]
    assert listed["data"]["adjustment"]["id"] == word["id"]


async def test_many_transfers_are_answered_line_by_line_and_wait_behind_a_stop(api: Harness) -> None:
    def line(amount: int, **more: str) -> dict[str, str]:
        ends = {"fromWalletId": api.tenant.wallet, "toWalletId": api.tenant.empty_wallet}
        return {**ends, "asset": XLM.text, "amount": str(amount), **more}

    shown = "bulkTransfer { id posted refused waiting lines { status code amount { atomic } } }"
    query = command("createBulkTransfer", shown)
    asked = {"idempotencyKey": "bulk", "transfers": [line(5), line(FUNDS * 2), line(6, group="g", fee="1")]}
    made, again = await mutate(api, query, **asked), await mutate(api, query, **asked)
    assert (made["status"], again["status"]) == ("DONE", "ALREADY_EXISTS")
    bulk = made["bulkTransfer"]
    assert again["bulkTransfer"] == bulk
    assert [each["code"] for each in bulk["lines"]] == [None, "insufficient_funds", None]
    by_id = "query ($id: ID!) { " + shown.replace("bulkTransfer", "bulkTransfer(id: $id)") + " }"
    assert (await api.graphql(by_id, id=bulk["id"]))["data"]["bulkTransfer"] == bulk
    assert (await api.graphql(by_id, id=bulk["id"], tenant=api.other))["data"]["bulkTransfer"] is None
    wrong = await mutate(api, query, idempotencyKey="wrong", transfers=[line(1), line(-1)])
    assert [(each["code"], each["field"]) for each in wrong["errors"]] == [
        ("amount_not_positive", "transfers/1/amount")
    ]
    other = {"idempotencyKey": "stopped", "transfers": [line(1)]}
    stopped = await stop(api.app.db, api.tenant.id, Place(Scope.ASSET, XLM.text))
    assert codes(await mutate(api, query, **other)) == ["stopped_by_switch"]
    await resume(api.app.db, stopped, api.tenant.id)
    assert (await mutate(api, query, **other))["status"] == "DONE"

    # A stop between two batches of one request.
    many = {"idempotencyKey": "many", "transfers": [line(1)] * 300}
    async with (
        asyncio.TaskGroup() as group,
        asyncio.timeout(20),
        api.app.db.unit_of_work(api.tenant.id) as uow,
    ):
        await hold_the_ledger(uow)
        asking = group.create_task(mutate(api, query, **many))
        await until_someone_waits(api.app.db, 1)
        stopping = group.create_task(stop(api.app.db, api.tenant.id, Place(Scope.ASSET, XLM.text)))
        await until_someone_waits(api.app.db, 2)
    halved, stopped = asking.result(), stopping.result()
    assert halved["status"] == "PENDING"
    assert {each["code"] for each in halved["bulkTransfer"]["lines"]} == {None, "stopped_by_switch"}
    await resume(api.app.db, stopped, api.tenant.id)
    rest = await mutate(api, query, **many)
    assert (rest["status"], rest["bulkTransfer"]["posted"]) == ("ALREADY_EXISTS", 300)


async def test_what_was_accepted_and_not_posted_is_not_called_refused(api: Harness) -> None:
    line = {"fromWalletId": api.tenant.wallet, "toWalletId": api.tenant.empty_wallet}
    asked = {"idempotencyKey": "ended", "transfers": [{**line, "asset": XLM.text, "amount": "1"}]}
    query = command("createBulkTransfer", "bulkTransfer { waiting posted lines { status code } }")
    running_poster, ending = api.app.poster, build_poster(api.app)
    ending.stop()
    object.__setattr__(api.app, "poster", ending)
    made, again = await mutate(api, query, **asked), await mutate(api, query, **asked)
    object.__setattr__(api.app, "poster", running_poster)
    assert (made["status"], again["status"]) == ("PENDING", "ALREADY_EXISTS")
    assert made["bulkTransfer"]["lines"] == [{"status": "waiting", "code": None}]
    assert (again["bulkTransfer"], made["errors"]) == (made["bulkTransfer"], [])
    done = await mutate(api, query, **asked)
    assert (done["status"], done["bulkTransfer"]["posted"]) == ("ALREADY_EXISTS", 1)


async def test_a_mutation_whose_transaction_is_lost_is_not_called_refused(api: Harness) -> None:
    line = {"fromWalletId": api.tenant.wallet, "toWalletId": api.tenant.empty_wallet}
    asked = {"idempotencyKey": "lost", **line, "asset": XLM.text, "amount": "1"}
    query = command("createTransfer", "transfer { id }")
    async with (
        asyncio.TaskGroup() as group,
        asyncio.timeout(20),
        api.app.db.unit_of_work(api.tenant.id) as uow,
    ):
        await uow.lock(f"audit/{api.tenant.id}")
        asking = group.create_task(mutate(api, query, **asked))
        await until_someone_waits(api.app.db, 1)
        await uow.conn.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks"
                " WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
        lost = await asking
    assert (lost["status"], codes(lost), lost["transfer"]) == ("UNKNOWN", ["database_unavailable"], None)
    assert lost["errors"][0]["retryable"]
    assert (await mutate(api, query, **asked))["status"] == "DONE"


async def test_a_batch_is_asked_for_decided_about_as_one_and_taken_back(api: Harness) -> None:
    batch = "withdrawalBatch { id digest approverSetVersion missing lines { state amount { atomic } } }"

    async def ask(key: str, *amounts: str) -> dict[str, Any]:
        lines = [
            {"walletId": api.tenant.wallet, "asset": XLM.text, "amount": each, "destination": STRANGER}
            for each in amounts
        ]
        return await mutate(api, command("createWithdrawalBatch", batch), idempotencyKey=key, lines=lines)

    made = await ask("batch", "5", "6")
    assert (made["status"], made["withdrawalBatch"]["missing"]) == ("PENDING", 2)
    assert (await ask("batch", "5", "6"))["status"] == "ALREADY_EXISTS"
    wrong = await ask("wrong", "5", "x")
    assert [(each["code"], each["field"]) for each in wrong["errors"]] == [
        ("malformed_amount", "lines/1/amount")
    ]
    decide = command("decideBatchApproval", batch, "DecideApproval")
    for name in ("alice", "bob"):
        word = decision(made["withdrawalBatch"], name, "APPROVE", BATCH_TAG)
        done = await mutate(api, decide, idempotencyKey=f"batch-{name}", **word)
        assert done["status"] == "DONE", done
    assert [each["state"] for each in done["withdrawalBatch"]["lines"]] == ["approved"] * 2
    cancel = command("cancelWithdrawalBatch", batch, "Cancel")
    signer: Any = api.app.signer
    signer.reachable = False
    gone = {"idempotencyKey": "batch-x", "id": made["withdrawalBatch"]["id"]}
    assert codes(await mutate(api, cancel, **gone)) == ["signer_unreachable"]
    signer.reachable = True
    ended = await mutate(api, cancel, **gone)
    assert [each["state"] for each in ended["withdrawalBatch"]["lines"]] == ["cancelled"] * 2
    other = (await ask("batch-2", "7"))["withdrawalBatch"]
    word = decision(other, "carol", "REJECT", BATCH_TAG)
    rejected = await mutate(api, decide, idempotencyKey="batch-no", **word)
    assert [each["state"] for each in rejected["withdrawalBatch"]["lines"]] == ["rejected"]


async def test_an_address_is_proposed_by_one_confirmed_by_another_and_removed(api: Harness) -> None:
    entry = "entry { id state confirmedBy countsFrom }"
    wanted = {"chain": STELLAR, "address": STRANGER, "label": "Kraken"}
    propose = command("proposeAddressEntry", entry)
    made = await mutate(api, propose, idempotencyKey="abe", **wanted)
    again = await mutate(api, propose, idempotencyKey="abe", **wanted)
    assert (made["status"], again["status"], made["entry"]) == ("PENDING", "ALREADY_EXISTS", again["entry"])
    wrong = await mutate(api, propose, idempotencyKey="abe-2", **{**wanted, "address": "G"})
    assert [each["field"] for each in wrong["errors"]] == ["address"]
    confirm = command("confirmAddressEntry", entry, "DecideAddressEntry")
    word = {"idempotencyKey": "abe-yes", "id": made["entry"]["id"]}
    assert codes(await mutate(api, confirm, **word)) == ["own_proposal"]
    done = await mutate(api, confirm, "bob", **word)
    assert (done["status"], done["entry"]["confirmedBy"]) == ("DONE", "bob")
    remove = command("removeAddressEntry", entry, "DecideAddressEntry")
    gone = await mutate(api, remove, idempotencyKey="abe-no", id=word["id"])
    assert gone["entry"]["state"] == "removed"
    restrict = command("restrictToAddressBook", "restriction { scope objectId addressBookOnly }")
    said = {"scope": "WALLET", "objectId": api.tenant.empty_wallet, "addressBookOnly": True}
    only = await mutate(api, restrict, idempotencyKey="abe-only", **said)
    assert only["restriction"] == {**said, "scope": "wallet"}


async def test_cases_are_assigned_returned_and_not_dismissed_while_they_hold_money(api: Harness) -> None:
    await arrive(api, memo="bytes:ff00")
    (case,) = await queue(api, state="open")
    shown = "case { id state wallet { id } withdrawalId }"
    named = {"id": case["id"]}
    kept = await mutate(api, command("dismissCase", shown), idempotencyKey="case-no", **named)
    assert codes(kept) == ["case_holds_money"]
    back = command("returnCase", shown)
    unsaid = await mutate(api, back, idempotencyKey="case-back", destination=STRANGER, **named)
    assert [(each["code"], each["field"]) for each in unsaid["errors"]] == [("required", "memo")]
    asked = await mutate(api, back, idempotencyKey="case-back", destination=STRANGER, memo=None, **named)
    assert (asked["status"], asked["case"]["state"]) == ("PENDING", "returning")
    assert asked["case"]["withdrawalId"].startswith("wdr_")
    await arrive(api, memo="bytes:ff01", height=case["arrival"]["height"] + 1, tx_hash="cd" * 32)
    (second,) = await queue(api, state="open")
    give = {"idempotencyKey": "case-yes", "id": second["id"], "walletId": api.tenant.empty_wallet}
    done, again = [await mutate(api, command("assignCase", shown), **give) for _ in range(2)]
    assert (done["status"], again["status"]) == ("DONE", "ALREADY_EXISTS")
    assert done["case"] == again["case"]
    assert (done["case"]["state"], done["case"]["wallet"]["id"]) == ("assigned", api.tenant.empty_wallet)


async def test_a_wallet_has_one_payment_reference_for_ever(api: Harness) -> None:
    query = command("namePaymentReference", "reference")
    first, again = [
        await mutate(api, query, idempotencyKey=f"ref-{n}", walletId=api.tenant.wallet) for n in range(2)
    ]
    assert (first["status"], first["reference"]) == ("DONE", again["reference"])
    by_rest = await api.post(f"/v1/wallets/{api.tenant.wallet}/payment-reference", None)
    assert by_rest.json()["reference"] == first["reference"]


async def test_a_quote_is_named_in_the_withdrawal(api: Harness) -> None:
    wanted = {"walletId": api.tenant.wallet, "asset": XLM.text, "amount": "9"}
    query = command("quoteWithdrawal", "quote { id kind fee { atomic } total { atomic } }")
    made = await mutate(api, query, idempotencyKey="quote", **wanted)
    quote = made["quote"]
    assert (made["status"], quote["kind"], quote["total"]["atomic"]) == ("DONE", "free", "9")
    asked = await mutate(
        api,
        command("createWithdrawal", "withdrawal { fee { quoteId } }"),
        idempotencyKey="quoted",
        destination=STRANGER,
        quoteId=quote["id"],
        **wanted,
    )
    assert (asked["status"], codes(asked)) == ("PENDING", [])
