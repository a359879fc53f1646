"""Vaults and addresses around a key that is born elsewhere: the same request, however often, is one vault and one address."""

from __future__ import annotations

from uuid import UUID

import pytest

from custody.chains.errors import UnsupportedChain
from custody.chains.stellar.address import parse_destination
from custody.db.session import Database
from custody.deposits import execution
from custody.deposits.errors import KeyNotOurs, RequestExistsDifferent
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, WalletId, derived_uuid
from custody.wallets import service as wallets
from custody.wallets.errors import NoOmnibusVault, UnknownWallet
from tests.fakes.faults import Crash, Faults
from tests.fakes.key_maker import FakeKey, FakeKeyMaker
from tests.integration.ingestion_harness import Desk

STELLAR = ChainId("stellar:devnet")
EVM = ChainId("eip155:31337")
REQUEST = derived_uuid("request")


class MortalKeyMaker(FakeKeyMaker):
    """Dies before or after the key is made, where a test says so."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self.faults = faults

    async def create_key(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, chain: ChainId
    ) -> FakeKey:
        self.faults.reach("before key")
        made = await super().create_key(request_id=request_id, tenant=tenant, purpose=purpose, chain=chain)
        self.faults.reach("after key")
        return made


class LyingKeyMaker(FakeKeyMaker):
    """Names an account that its key does not control."""

    async def create_key(
        self, *, request_id: UUID, tenant: TenantId, purpose: str, chain: ChainId
    ) -> FakeKey:
        made = await super().create_key(request_id=request_id, tenant=tenant, purpose=purpose, chain=chain)
        other = self.account_of(derived_uuid("other"), chain)
        return FakeKey(key_id=made.key_id, public_key=made.public_key, account=other)


def desk_of(database: Database, tenant: TenantId, chain: ChainId, keys: FakeKeyMaker | None = None) -> Desk:
    return Desk(db=database, tenant=tenant, chain=chain, keys=keys or FakeKeyMaker())


@pytest.mark.parametrize("chain", [STELLAR, EVM])
async def test_a_vault_is_made_once_however_often_it_is_asked_for(
    database: Database, tenant: TenantId, chain: ChainId
) -> None:
    desk = desk_of(database, tenant, chain)
    first, again = await desk.open_omnibus(), await desk.open_omnibus()
    assert first == again
    assert desk.keys.asked == 1
    async with database.read(tenant) as session:
        assert await wallets.omnibus(session, chain) == first


@pytest.mark.parametrize("point", ["before key", "after key"])
async def test_a_request_that_died_around_the_key_is_taken_up_again(
    database: Database, tenant: TenantId, point: str
) -> None:
    faults = Faults()
    desk = desk_of(database, tenant, EVM, MortalKeyMaker(faults))
    faults.arm(point)
    with pytest.raises(Crash):
        await desk.open_omnibus()
    vault = await desk.open_omnibus()
    assert await desk.open_omnibus() == vault
    async with database.read(tenant) as session:
        assert await wallets.list_vaults(session) == [vault]


async def test_stellar_wallets_share_the_omnibus_account_and_each_has_its_tags(
    database: Database, tenant: TenantId
) -> None:
    desk = desk_of(database, tenant, STELLAR)
    vault = await desk.open_omnibus()
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    issued = [
        await desk.issue_address(ada),
        await desk.issue_address(bob),
        await desk.issue_address(ada, derived_uuid("second")),
        await desk.issue_address(ada),
    ]
    assert [each.tag for each in issued] == [1, 2, 3, 1]
    assert {each.account for each in issued} == {vault.account}
    assert [parse_destination(each.address).tag for each in issued] == [1, 2, 3, 1]


async def test_an_evm_wallet_has_a_vault_of_its_own_and_the_treasury_names_the_omnibus(
    database: Database, tenant: TenantId
) -> None:
    desk = desk_of(database, tenant, EVM)
    omnibus = await desk.open_omnibus()
    ada, treasury = await desk.open_wallet("ada"), await desk.open_wallet("acme", "treasury")
    own, shared = await desk.issue_address(ada), await desk.issue_address(treasury)
    assert own.account != omnibus.account
    assert (own.tag, own.address) == (None, own.account)
    assert shared.account == omnibus.account
    assert await desk.issue_address(treasury, derived_uuid("again")) == shared
    async with database.read(tenant) as session:
        assert await wallets.attribute(session, omnibus.id, None) == treasury


async def test_a_request_id_means_one_thing_only(database: Database, tenant: TenantId) -> None:
    desk = desk_of(database, tenant, EVM)
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    await desk.issue_address(ada, REQUEST)
    with pytest.raises(RequestExistsDifferent):
        await desk.issue_address(bob, REQUEST)
    await execution.create_vault(database, desk.keys, desk.principal, EVM, REQUEST)
    with pytest.raises(RequestExistsDifferent):
        await execution.create_vault(database, desk.keys, desk.principal, STELLAR, REQUEST)


async def test_an_account_that_is_not_the_keys_own_is_refused(database: Database, tenant: TenantId) -> None:
    desk = desk_of(database, tenant, STELLAR, LyingKeyMaker())
    with pytest.raises(KeyNotOurs):
        await desk.open_omnibus()
    async with database.read(tenant) as session:
        assert await wallets.list_vaults(session) == []


async def test_what_is_missing_is_named_and_nothing_is_made(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    desk = desk_of(database, tenant, STELLAR)
    ada = await desk.open_wallet("ada")
    with pytest.raises(NoOmnibusVault):
        await desk.issue_address(ada)
    with pytest.raises(UnknownWallet):
        await execution.issue_address(database, desk.keys, desk.principal, WalletId(REQUEST), EVM, REQUEST)
    theirs = desk_of(database, other_tenant, EVM)
    with pytest.raises(UnknownWallet):
        await execution.issue_address(database, desk.keys, theirs.principal, ada, EVM, REQUEST)
    with pytest.raises(UnsupportedChain):
        await execution.create_vault(database, desk.keys, desk.principal, ChainId("fiat"), REQUEST)
    assert desk.keys.asked == 0
