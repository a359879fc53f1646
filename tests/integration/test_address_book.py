"""The address book: two people, a wait, and what is restricted to it. And the same over REST, GraphQL and the command."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cli.main import main
from custody.address_book import service as address_book
from custody.address_book.errors import (
    BadLabel,
    DestinationNotListed,
    EntryDecided,
    EntryExistsDifferent,
    OwnProposal,
    UnknownEntry,
)
from custody.address_book.model import Entry, Receiver
from custody.chains.errors import InvalidAddress
from custody.db.session import Database
from custody.kernel.ids import TenantId, new_uuid
from custody.wallets.errors import UnknownVault, UnknownWallet
from custody.withdrawals.model import Memo
from tests.fakes.withdrawal_world import ETH, EVM, OUTSIDE, STELLAR, VAULT, WALLET, World
from tests.integration.api_harness import STRANGER, Harness, running
from tests.integration.test_operator import CONFIGURATION

pytestmark = pytest.mark.usefixtures("told_as_promised")

WAIT_S = 3600


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


async def restrict(world: World, scope, object_id: UUID, *, enabled: bool = True, wait_s: int = WAIT_S):
    async with world.db.unit_of_work(world.tenant) as uow:
        return await address_book.restrict(uow, "olga", scope, object_id, enabled=enabled, wait_s=wait_s)


async def propose(
    world: World, chain=STELLAR, memo: tuple[str, str] = ("none", ""), *, entry_id: UUID | None = None,
    actor: str = "olga", label: str = "exchange", address: str = "",
) -> Entry:  # fmt: skip
    receiver = Receiver(chain=chain, address=address or OUTSIDE[chain], memo_type=memo[0], memo=memo[1])
    async with world.db.unit_of_work(world.tenant) as uow:
        return await address_book.propose(uow, actor, entry_id or new_uuid(), receiver, label)


async def confirm(world: World, entry: Entry, actor: str = "piet", wait_s: int = 0) -> Entry:
    async with world.db.unit_of_work(world.tenant) as uow:
        return await address_book.confirm(uow, actor, entry.id, wait_s=wait_s)


async def remove(world: World, entry: Entry) -> Entry:
    async with world.db.unit_of_work(world.tenant) as uow:
        return await address_book.remove(uow, "olga", entry.id)


async def refuses(world: World, **changes: object) -> None:
    before = await world.money()
    with pytest.raises(DestinationNotListed):
        await world.request(**changes)
    assert await world.money() == before


async def test_a_restricted_vault_pays_only_what_two_people_listed_and_only_after_the_wait(world: World):
    await restrict(world, "vault", VAULT[STELLAR])
    await refuses(world)
    assert (await world.request(ETH)).state == "awaiting_approval"

    entry = await propose(world)
    assert entry.state == "proposed"
    await refuses(world)
    with pytest.raises(OwnProposal):
        await confirm(world, entry, "olga")
    waiting = await confirm(world, entry, wait_s=WAIT_S)
    assert (waiting.state, waiting.confirmed_by) == ("confirmed", "piet")
    assert waiting.counts_from is not None
    assert (
        timedelta(seconds=WAIT_S - 60) < waiting.counts_from - datetime.now(UTC) <= timedelta(seconds=WAIT_S)
    )
    assert await confirm(world, entry, wait_s=0) == waiting
    with pytest.raises(EntryDecided):
        await confirm(world, entry, "quinn")
    await refuses(world)

    counting = await confirm(world, await propose(world))
    made = await world.request()
    await refuses(world, memo=Memo(type="id", value="7"))
    await confirm(world, await propose(world, memo=("id", "7")))
    await world.request(memo=Memo(type="id", value="7"))

    assert (await remove(world, counting)).state == "removed"
    assert await remove(world, counting) == await remove(world, counting)
    with pytest.raises(EntryDecided):
        await confirm(world, counting, "quinn")
    with pytest.raises(DestinationNotListed):
        await world.request()
    assert (await world.request(id=made.id)).state == "awaiting_approval"


async def test_a_restriction_holds_at_once_and_is_lifted_only_after_the_wait(world: World):
    await restrict(world, "wallet", WALLET)
    await refuses(world)
    lifted = await restrict(world, "wallet", WALLET, enabled=False)
    assert await restrict(world, "wallet", WALLET, enabled=False) == lifted
    await refuses(world)
    await restrict(world, "wallet", WALLET)
    await restrict(world, "wallet", WALLET, enabled=False, wait_s=0)
    await world.request()
    async with world.db.read(world.tenant) as session:
        (found,) = await address_book.list_restrictions(session)
    assert (found.scope, found.object_id, found.enabled) == ("wallet", WALLET, False)
    for scope, error in (("vault", UnknownVault), ("wallet", UnknownWallet)):
        with pytest.raises(error):
            await restrict(world, scope, new_uuid())


async def test_bad_entries_are_refused_and_the_database_sees_two_people(world: World, other_tenant: TenantId):
    entry = await propose(world, EVM, address=OUTSIDE[EVM].lower())
    assert entry.receiver.address == OUTSIDE[EVM]
    assert await propose(world, EVM, entry_id=entry.id) == entry
    for changes, error in (
        ({"chain": EVM, "entry_id": entry.id, "label": "other"}, EntryExistsDifferent),
        ({"chain": EVM, "entry_id": entry.id, "actor": "piet"}, EntryExistsDifferent),
        ({"label": " "}, BadLabel),
        ({"label": "x" * 201}, BadLabel),
        ({"address": "GBAD"}, InvalidAddress),
    ):
        with pytest.raises(error):
            await propose(world, **changes)
    async with world.db.read(other_tenant) as session:
        assert await address_book.list_entries(session) == []
        with pytest.raises(UnknownEntry):
            await address_book.get_entry(session, entry.id)
    words = (
        "INSERT INTO address_book_words (tenant_id, entry_id, event, proposed_by, actor, counts_from) VALUES "
    )
    for values, rule in (
        ("(:tenant, :entry, 'confirm', 'olga', 'olga', now())", "four_eyes"),
        ("(:tenant, :entry, 'confirm', 'piet', 'olga', now())", "fk_address_book_words_entry"),
        ("(:tenant, :entry, 'confirm', 'olga', 'piet', NULL)", "counts_once_confirmed"),
    ):
        with pytest.raises(DBAPIError, match=rule):
            async with world.db.unit_of_work(world.tenant) as uow:
                await uow.conn.execute(text(words + values), {"tenant": world.tenant, "entry": entry.id})


Command = Callable[..., Awaitable[list[dict[str, object]]]]


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


async def test_the_book_over_rest_graphql_and_the_command(
    api: Harness, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "custody.toml"
    path.write_text("address_book_wait_s = 0\n" + CONFIGURATION.format(url=database.url))
    monkeypatch.setenv("CUSTODY_CONFIG", str(path))

    async def command(*words: str) -> list[dict[str, object]]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert await asyncio.to_thread(main, [*words, "--tenant", str(api.tenant.id)]) == 0
        return [json.loads(line) for line in printed.getvalue().splitlines() if line.startswith("{")]

    wanted = {
        "wallet_id": api.tenant.wallet,
        "asset": "stellar:devnet/native",
        "amount": "5",
        "destination": STRANGER,
    }
    book = "/v1/address-book"
    set_up = {"scope": "vault", "object_id": api.tenant.vault, "address_book_only": True}
    assert (await api.post(f"{book}/restrictions", set_up, scope="write")).status_code == 403
    assert (await api.post(f"{book}/restrictions", set_up)).json()["address_book_only"] is True
    refused = await api.post("/v1/withdrawals", wanted)
    assert (refused.status_code, refused.json()["code"]) == (422, "destination_not_listed")

    body = {"chain": "stellar:devnet", "address": STRANGER, "label": "exchange"}
    made = (await api.post(f"{book}/entries", body, key="entry-1")).json()
    assert (await api.post(f"{book}/entries", body, key="entry-1")).json() == made
    bad = await api.post(f"{book}/entries", body | {"address": "GBAD"})
    assert (bad.status_code, bad.json()["code"]) == (422, "invalid_address")
    own = await api.post(f"{book}/entries/{made['id']}/confirm", None)
    assert (own.status_code, own.json()["code"]) == (422, "own_proposal")
    (said,) = await command("address-book", "confirm", made["id"])
    assert (said["state"], said["proposed_by"]) == ("confirmed", "acme-all")
    in_time = datetime.now(UTC) + timedelta(minutes=30)
    asked = await api.post("/v1/withdrawals", wanted | {"execute_after": in_time.isoformat()})
    assert asked.status_code == 201, asked.text
    assert datetime.fromisoformat(asked.json()["execute_after"]) == in_time
    for moment, code in (("tomorrow", "malformed_moment"), ("2030-01-01T00:00:00Z", "window_too_short")):
        late = await api.post("/v1/withdrawals", wanted | {"execute_after": moment})
        assert (late.status_code, late.json()["code"]) == (422, code)

    await wait_and_refuse(api, command, wanted)
    await read_back(api, asked.json()["id"], made["id"], in_time)
    (proposed,) = await command("address-book", "propose", "eip155:31337", OUTSIDE[EVM], "--label", "cold")
    assert (await api.post(f"{book}/entries/{proposed['entry']}/confirm", None)).json()[
        "state"
    ] == "confirmed"
    await command("address-book", "remove", made["id"])
    await command("address-book", "lift", api.tenant.vault)
    states = [
        line.get("state", line.get("address_book_only")) for line in await command("address-book", "list")
    ]
    assert states == ["removed", "confirmed", False]
    assert (await api.post("/v1/withdrawals", wanted)).json()["state"] == "awaiting_approval"
    page = (await api.get(f"{book}/entries", limit="1")).json()
    assert ([row["state"] for row in page["data"]], bool(page["next_cursor"])) == (["removed"], True)
    assert (await api.get(f"{book}/restrictions")).json()["data"][0]["object_id"] == api.tenant.vault


async def wait_and_refuse(api: Harness, command: Command, wanted: dict[str, str]) -> None:
    """Rules of cool-downs, and the list of refused addresses."""
    await api.post("/v1/cool-down-rules", {"asset": "*", "seconds": 60, "note": "policy 7"})
    assert [rule["seconds"] for rule in await command("cool-down", "list")] == [60]
    await command("cool-down", "set", "stellar:devnet/native", "90", "--from-amount", "5")
    assert len((await api.get("/v1/cool-down-rules")).json()["data"]) == 2
    listed = {"chain": "stellar:devnet", "address": STRANGER, "source": "sanctions"}
    assert (await api.post("/v1/refused-addresses", listed)).json()["word"] == "refused"
    assert (await api.post("/v1/withdrawals", wanted)).json()["state"] == "blocked"
    await command("refused", "withdraw", "stellar:devnet", STRANGER, "--source", "sanctions of today")
    assert [row["word"] for row in (await api.get("/v1/refused-addresses")).json()["data"]] == [
        "refused", "withdrawn",
    ]  # fmt: skip
    assert [row["word"] for row in await command("refused", "list")] == ["refused", "withdrawn"]


async def read_back(api: Harness, withdrawal_id: str, entry_id: str, in_time: datetime) -> None:
    """What a custody app sees of it."""
    detail = (await api.get(f"/v1/withdrawals/{withdrawal_id}")).json()
    assert [(each["screener"], each["finding"]) for each in detail["screenings"]] == [("list", "clear")]
    answer = await api.graphql(
        "query($id: ID!) { withdrawal(id: $id) { state executeAfter coolUntil screenings { screener finding listVersion } } "
        "addressBook(first: 5) { edges { node { id state confirmedBy } } } "
        "addressBookRestrictions { scope objectId addressBookOnly } }",
        id=withdrawal_id,
    )
    shown = answer["data"]
    assert shown["withdrawal"]["screenings"] == [{"screener": "list", "finding": "clear", "listVersion": "0"}]
    assert (shown["withdrawal"]["state"], shown["withdrawal"]["coolUntil"]) == ("awaiting_approval", None)
    assert datetime.fromisoformat(shown["withdrawal"]["executeAfter"]) == in_time
    assert [edge["node"]["id"] for edge in shown["addressBook"]["edges"]] == [entry_id]
    assert shown["addressBookRestrictions"] == [
        {"scope": "vault", "objectId": api.tenant.vault, "addressBookOnly": True}
    ]
