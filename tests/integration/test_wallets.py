"""Customers, wallets, vaults and attribution."""

from __future__ import annotations

import asyncio

import pytest

from custody.db.session import Database
from custody.kernel.assetid import ChainId
from custody.kernel.ids import AddressId, CustomerId, TenantId, VaultId, WalletId, new_uuid
from custody.wallets import service as wallets
from custody.wallets.errors import (
    AccountTaken,
    BadName,
    CustomerExistsDifferent,
    NoOmnibusVault,
    UnknownCustomer,
    UnknownWallet,
)
from custody.wallets.model import MAX_TAG, DepositAddress, Vault, Wallet

STELLAR = ChainId("stellar:devnet")
EVM = ChainId("eip155:31337")


async def make_wallet(database: Database, tenant: TenantId, name: str = "Ann") -> Wallet:
    async with database.unit_of_work(tenant) as uow:
        customer = await wallets.create_customer(
            uow, "test", CustomerId(new_uuid()), name=name, external_ref=name.lower()
        )
        return await wallets.create_wallet(uow, "test", WalletId(new_uuid()), customer.id, "main")


def make_vault(chain: ChainId, account: str, wallet_id: WalletId | None = None) -> Vault:
    return Vault(
        id=VaultId(new_uuid()),
        chain=chain,
        purpose="deposit" if wallet_id else "omnibus",
        wallet_id=wallet_id,
        key_id="ab" * 16,
        account=account,
    )


async def test_a_customer_is_one_by_external_reference(database: Database, tenant: TenantId) -> None:
    async with database.unit_of_work(tenant) as uow:
        first = await wallets.create_customer(uow, "t", CustomerId(new_uuid()), name="Ann", external_ref="a")
        again = await wallets.create_customer(uow, "t", CustomerId(new_uuid()), name="Ann", external_ref="a")
        assert first == again
        with pytest.raises(CustomerExistsDifferent):
            await wallets.create_customer(uow, "t", CustomerId(new_uuid()), name="Bob", external_ref="a")


@pytest.mark.parametrize("name", ["", " x", "a\x00b", "x" * 201, "\u202eevil"])
async def test_a_name_is_printable(database: Database, tenant: TenantId, name: str) -> None:
    async with database.unit_of_work(tenant) as uow:
        with pytest.raises(BadName):
            await wallets.create_customer(uow, "t", CustomerId(new_uuid()), name=name, external_ref="a")


async def test_a_wallet_of_another_tenant_does_not_exist(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    wallet = await make_wallet(database, tenant)
    async with database.unit_of_work(other_tenant) as uow:
        with pytest.raises(UnknownWallet):
            await wallets.get_wallet(uow, wallet.id)
        with pytest.raises(UnknownCustomer):
            await wallets.create_wallet(uow, "t", WalletId(new_uuid()), wallet.customer_id, "theirs")


async def test_an_arrival_belongs_to_its_tags_wallet_and_else_to_nobody(
    database: Database, tenant: TenantId
) -> None:
    wallet = await make_wallet(database, tenant)
    vault = make_vault(STELLAR, "GOMNIBUS")
    async with database.unit_of_work(tenant) as uow:
        await wallets.add_vault(uow, "t", vault)
        tag = await wallets.next_tag(uow, vault.id)
        await wallets.add_address(
            uow,
            "t",
            DepositAddress(
                id=AddressId(new_uuid()),
                wallet_id=wallet.id,
                vault_id=vault.id,
                chain=STELLAR,
                address="M",
                account=vault.account,
                tag=tag,
            ),
        )
        assert await wallets.attribute(uow, vault.id, tag) == wallet.id
        assert await wallets.attribute(uow, vault.id, tag + 1) is None
        # Any sender can choose any 64-bit number.
        assert await wallets.attribute(uow, vault.id, MAX_TAG) is None
        assert await wallets.attribute(uow, vault.id, None) is None


async def test_a_deposit_vault_belongs_to_its_wallet(database: Database, tenant: TenantId) -> None:
    wallet = await make_wallet(database, tenant)
    vault = make_vault(EVM, "0xabc", wallet.id)
    async with database.unit_of_work(tenant) as uow:
        await wallets.add_vault(uow, "t", vault)
        assert await wallets.attribute(uow, vault.id, None) == wallet.id
        with pytest.raises(NoOmnibusVault):
            await wallets.omnibus(uow, EVM)


async def test_an_account_has_one_vault_in_the_whole_installation(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await wallets.add_vault(uow, "t", make_vault(EVM, "0xabc"))
    with pytest.raises(AccountTaken):
        async with database.unit_of_work(other_tenant) as uow:
            await wallets.add_vault(uow, "t", make_vault(EVM, "0xabc"))


async def test_vaults_are_found_by_account_across_tenants_and_nothing_else_is(
    database: Database, tenant: TenantId, other_tenant: TenantId
) -> None:
    async with database.unit_of_work(tenant) as uow:
        await wallets.add_vault(uow, "t", make_vault(EVM, "0xabc"))
    async with database.unit_of_work(other_tenant) as uow:
        await wallets.add_vault(uow, "t", make_vault(EVM, "0xdef"))
    async with database.read(None) as session:
        found = await wallets.find_vaults(session, EVM, ["0xabc", "0xdef", "0x123"])
        assert {(ref.tenant, ref.account) for ref in found} == {(tenant, "0xabc"), (other_tenant, "0xdef")}
        assert await wallets.find_vaults(session, STELLAR, ["0xabc"]) == []


async def test_tags_are_never_given_twice(database: Database, tenant: TenantId) -> None:
    vault = make_vault(STELLAR, "GOMNIBUS")
    async with database.unit_of_work(tenant) as uow:
        await wallets.add_vault(uow, "t", vault)

    async def take() -> int:
        async with database.unit_of_work(tenant) as uow:
            return await wallets.next_tag(uow, vault.id)

    assert sorted(await asyncio.gather(*(take() for _ in range(20)))) == list(range(1, 21))
