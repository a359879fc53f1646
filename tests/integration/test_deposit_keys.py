"""Keys for deposit addresses: none is lost or made twice around the signer, each is given once and to one wallet, and a row that
somebody else wrote is given to nobody."""

from __future__ import annotations

import asyncio
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from custody.db.session import Database
from custody.deposits import execution
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, WalletId, derived_uuid, new_uuid
from custody.signing.errors import SignerRefused
from custody.signing.model import VouchedKey
from custody.wallets import keys as pool
from custody.wallets import service as wallets
from custody.wallets.errors import DepositPoolEmpty
from custody.wallets.model import DepositAddress, PoolDepth
from tests.fakes.faults import Crash, Faults
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import Desk

EVM, BASE = ChainId("eip155:31337"), ChainId("eip155:8453")


class MortalKeyMaker(FakeKeyMaker):
    """Dies before a batch is made, or before its answer arrives; or refuses."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults
        self.refusal = ""

    async def create_keys(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, count: int
    ) -> list[VouchedKey]:
        self.faults.reach("before keys")
        if self.refusal:
            raise SignerRefused(reason=self.refusal, text="")
        made = await super().create_keys(request_id=request_id, tenant=tenant, purpose=purpose, count=count)
        self.faults.reach("after keys")
        return made


@pytest.fixture
def desk(database: Database, tenant: TenantId) -> Desk:
    return Desk(db=database, tenant=tenant, chain=EVM, keys=FakeKeyMaker())


async def address_of(desk: Desk, wallet: WalletId, chain: ChainId = EVM) -> DepositAddress:
    """What the API does, without a pool that fills itself."""
    return await execution.issue_address(
        desk.db, desk.keys, desk.principal, wallet, chain, derived_uuid("asked", wallet, chain, new_uuid())
    )


async def depth(desk: Desk) -> PoolDepth:
    async with desk.db.read(desk.tenant) as session:
        return await pool.depth(session)


async def key_ids(desk: Desk) -> list[str]:
    async with desk.db.read(desk.tenant) as session:
        return [key.key_id for key in await pool.list_keys(session, "", 1000)]


@pytest.mark.parametrize("point", ["before keys", "after keys", "while they are stored"])
async def test_a_refill_that_died_is_taken_up_again(
    database: Database, tenant: TenantId, admin_dsn: str, point: str
) -> None:
    faults = Faults()
    maker = MortalKeyMaker(faults)
    desk = Desk(db=database, tenant=tenant, chain=EVM, keys=maker)
    admin = await asyncpg.connect(admin_dsn)
    try:
        if point == "while they are stored":
            await admin.execute(
                "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'the disk is full' USING ERRCODE = 'disk_full'; END $$"
            )
            await admin.execute(
                "CREATE TRIGGER dying BEFORE INSERT ON deposit_keys FOR EACH ROW WHEN (NEW.sequence > 2) "
                "EXECUTE FUNCTION die()"
            )
            with pytest.raises(DBAPIError):
                await desk.fill_pool(low_water=1, batch_size=4)
            await admin.execute("DROP TRIGGER dying ON deposit_keys")
        else:
            faults.arm(point)
            with pytest.raises(Crash):
                await desk.fill_pool(low_water=1, batch_size=4)
    finally:
        await admin.close()
    found = await depth(desk)
    assert (found.free, found.asked is not None and found.asked.size) == (0, 4)
    # What was asked for is what comes, whatever is configured by now.
    assert await desk.fill_pool(low_water=9, batch_size=100) == 4
    assert sorted(await key_ids(desk)) == sorted(maker.held[tenant])
    assert (await depth(desk)).asked is None


async def test_workers_that_fill_one_pool_at_once_store_each_key_once(desk: Desk) -> None:
    added = await asyncio.gather(*(desk.fill_pool(low_water=3, batch_size=3) for _ in range(8)))
    assert sum(added) == 3
    assert sorted(await key_ids(desk)) == sorted(desk.keys.held[desk.tenant])
    assert await desk.fill_pool(low_water=3, batch_size=3) == 0
    assert await desk.fill_pool(low_water=4, batch_size=3) == 3
    assert (await depth(desk)).free == 6


async def test_a_refusal_is_shown_until_the_batch_is_made(database: Database, tenant: TenantId) -> None:
    maker = MortalKeyMaker(Faults())
    desk = Desk(db=database, tenant=tenant, chain=EVM, keys=maker)
    maker.refusal = "over_velocity"
    for _ in range(2):
        with pytest.raises(SignerRefused):
            await desk.fill_pool()
    refused = (await depth(desk)).asked
    assert refused is not None
    assert refused.refusal == "over_velocity"
    maker.refusal = ""
    assert await desk.fill_pool() == 3
    assert list(maker.held[tenant]) == [
        derived_uuid("key of a batch", refused.id, number).hex for number in (1, 2, 3)
    ]


async def test_many_that_ask_at_once_never_get_the_same_key_and_latecomers_are_told(desk: Desk) -> None:
    await desk.fill_pool(batch_size=20)
    people = [await desk.open_wallet(f"customer-{number}") for number in range(26)]
    answers = await asyncio.gather(*(address_of(desk, wallet) for wallet in people), return_exceptions=True)
    given = [answer for answer in answers if isinstance(answer, DepositAddress)]
    assert len({address.account for address in given}) == len(given) == 20
    assert {type(answer) for answer in answers} == {DepositAddress, DepositPoolEmpty}
    found = await depth(desk)
    assert (found.free, found.taken) == (0, 20)
    async with desk.db.read(desk.tenant) as session:
        assert len(await wallets.list_vaults(session)) == 20
    await desk.fill_pool(batch_size=10)
    late = [wallet for wallet, answer in zip(people, answers, strict=True) if answer not in given]
    more = [await address_of(desk, wallet) for wallet in late]
    assert len({address.account for address in (*given, *more)}) == 26


async def test_one_wallet_has_one_address_on_all_evm_chains_however_it_asks(desk: Desk) -> None:
    await desk.fill_pool(batch_size=6)
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    asked = [(wallet, chain) for wallet in (ada, bob) for chain in (EVM, BASE) for _ in range(6)]
    answers = await asyncio.gather(*(address_of(desk, wallet, chain) for wallet, chain in asked))
    told = {(address.wallet_id, address.chain, address.id, address.account) for address in answers}
    assert len(told) == 4
    assert len({account for wallet, _, _, account in told if wallet == ada}) == 1
    assert len({account for *_, account in told}) == 2
    assert (await depth(desk)).taken == 2
    async with desk.db.read(desk.tenant) as session:
        owned = {vault.account: vault.wallet_id for vault in await wallets.list_vaults(session)}
        assert owned == {account: wallet for wallet, _, _, account in told}
        assert len(await wallets.list_addresses(session, ada)) == 2


async def test_an_empty_pool_is_said_and_changes_nothing(desk: Desk, admin_dsn: str) -> None:
    ada = await desk.open_wallet("ada")
    before = await counts(admin_dsn)
    with pytest.raises(DepositPoolEmpty) as caught:
        await address_of(desk, ada)
    assert (caught.value.code, caught.value.retryable) == ("deposit_pool_empty", True)
    assert await counts(admin_dsn) == before


async def counts(admin_dsn: str) -> dict[str, int]:
    admin = await asyncpg.connect(admin_dsn)
    try:
        names = await admin.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {
            row["tablename"]: await admin.fetchval(f'SELECT count(*) FROM "{row["tablename"]}"')
            for row in names
        }
    finally:
        await admin.close()


TAKING_BACK = [
    "UPDATE deposit_keys SET state = 'free', wallet_id = NULL WHERE state = 'taken'",
    "UPDATE deposit_keys SET wallet_id = gen_random_uuid() WHERE state = 'taken'",
    "UPDATE deposit_keys SET account = '0x' || repeat('0', 40) WHERE state = 'free'",
    "UPDATE deposit_keys SET public_key = public_key || '' , key_id = repeat('0', 32) WHERE state = 'free'",
    "UPDATE deposit_keys SET public_key = decode(repeat('04', 65), 'hex')",
    "UPDATE vaults SET wallet_id = gen_random_uuid()",
    "UPDATE vaults SET account = '0x' || repeat('0', 40)",
    "DELETE FROM deposit_keys",
    "DELETE FROM deposit_key_batches",
    "TRUNCATE deposit_keys",
    "INSERT INTO deposit_keys OVERRIDING SYSTEM VALUE SELECT * FROM deposit_keys LIMIT 1",
]
"""What nobody may do, the owner of the tables included."""


async def test_the_database_itself_takes_no_address_back(desk: Desk, admin_dsn: str) -> None:
    await desk.fill_pool(batch_size=2)
    await address_of(desk, await desk.open_wallet("ada"))
    admin = await asyncpg.connect(admin_dsn)
    try:
        for statement in TAKING_BACK:
            with pytest.raises(asyncpg.IntegrityConstraintViolationError):
                await admin.execute(statement)
    finally:
        await admin.close()
    found = await depth(desk)
    assert (found.free, found.taken) == (1, 1)


async def test_a_batch_or_key_under_another_tenant_is_not_seen(desk: Desk, other_tenant: TenantId) -> None:
    await desk.fill_pool(batch_size=2)
    theirs = Desk(db=desk.db, tenant=other_tenant, chain=EVM, keys=desk.keys)
    assert (await depth(theirs)).free == 0
    with pytest.raises(DepositPoolEmpty):
        await address_of(theirs, await theirs.open_wallet("eve"))
