"""Vaults and deposit addresses: the steps around a key that is born in the HSM.

The request is written and committed, then the signer is asked (no transaction open), then the vault is recorded. Each step may be
repeated with the same request id: the signer answers with the same key, and the rows are already there. Addresses on EVM chains
have keys that were made ahead (`key_pool`), so that the signer need not be there for them; what it signed then is checked now.
"""

from __future__ import annotations

from uuid import UUID

from custody.chains import address as addresses
from custody.chains.stellar.address import muxed
from custody.chains.stellar.memo import parse_words
from custody.db.session import Database, UnitOfWork
from custody.deposits import key_check, key_pool, store
from custody.deposits.errors import KeyNotOurs, RequestExistsDifferent
from custody.deposits.model import AddressMemo
from custody.deposits.ports import KeyMaker, KeyVoucher
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId
from custody.kernel.ids import AddressId, TenantId, VaultId, WalletId, derived_uuid
from custody.wallets import keys as pool
from custody.wallets import service as wallets
from custody.wallets.errors import DepositPoolEmpty, KeyNotVouchedFor, MemosNotKnown, UnknownVault
from custody.wallets.model import DepositAddress, DepositKey, Vault

OMNIBUS = "omnibus"
_TRIES = 5
"""How many keys the signer is asked about before an address is given up: others may take those that it vouched for."""


async def create_vault(
    db: Database,
    signer: KeyMaker,
    principal: Principal,
    chain: ChainId,
    request_id: UUID,
    purpose: str = OMNIBUS,
) -> Vault:
    """A new vault that is no wallet's own: omnibus unless told. Idempotent by request id; raises RequestExistsDifferent,
    UnsupportedChain and the signer's errors."""
    addresses.curve_of(chain)
    return await _make_vault(db, signer, principal, chain, purpose, request_id)


async def find_or_make(
    db: Database, signer: KeyMaker, principal: Principal, chain: ChainId, purpose: str, count: int
) -> list[Vault]:
    """The vaults of a purpose, as many as wanted: those that are missing are made. More than wanted stay."""
    async with db.read(principal.tenant) as session:
        found = await wallets.list_vaults(session, chain, purpose)
    for place in range(len(found), count):
        request_id = derived_uuid("helper_vault", principal.tenant, chain, purpose, place)
        found.append(await create_vault(db, signer, principal, chain, request_id, purpose))
    return found


def parse_address_memo(chain: ChainId, memo_type: str, value: str) -> AddressMemo:
    """A memo that can name a wallet. Raises InvalidAddressMemo, and MemosNotKnown on chains that have none."""
    if addresses.namespace(chain) != addresses.STELLAR:
        raise MemosNotKnown(chain=chain)
    return AddressMemo(type=memo_type, words=parse_words(memo_type, value))


async def issue_address(
    db: Database,
    signer: KeyMaker,
    principal: Principal,
    wallet_id: WalletId,
    chain: ChainId,
    request_id: UUID,
    memo: AddressMemo | None = None,
) -> DepositAddress:
    """A deposit address for a wallet. Idempotent by request id.

    Stellar: a new tag on the omnibus account, or the memo that a partner insists on. EVM: the wallet's own address, one for all
    EVM chains, which from now on credits it on this one too; every further request gets the same. Or, for a wallet of the
    treasury, the omnibus account itself, which nobody else is told: that is how the tenant fills the vault that pays. Raises
    UnknownWallet, NoOmnibusVault, DepositPoolEmpty, KeyNotVouchedFor, RequestExistsDifferent, UnsupportedChain,
    InvalidAddressMemo, MemosNotKnown, MemoTaken, and the signer's errors where it has to be asked whose a key is.
    """
    kind = addresses.namespace(chain)
    addresses.curve_of(chain)
    async with db.unit_of_work(principal.tenant) as uow:
        await uow.lock(f"address/{principal.tenant}/{request_id}")
        known = await _find(uow, principal.tenant, wallet_id, chain, request_id, memo)
        if known is not None:
            return known
        wallet = await wallets.get_wallet(uow, wallet_id)
        if memo is not None:
            return await _register_memo(uow, principal, wallet_id, chain, request_id, memo)
        if kind == addresses.STELLAR:
            return await _issue_tag(uow, principal, wallet_id, chain, request_id)
        customer = await wallets.get_customer(uow, wallet.customer_id)
        if customer.kind == "treasury":
            return await _name_omnibus(uow, principal, wallet_id, chain, request_id)
        known = await _enabled(uow, wallet_id, chain)
        if known is not None:
            return known
        if not await pool.has_key_for(uow, wallet_id):
            raise DepositPoolEmpty
    return await _enable(db, signer, principal, wallet_id, chain, request_id)


async def _enable(
    db: Database,
    signer: KeyVoucher,
    principal: Principal,
    wallet_id: WalletId,
    chain: ChainId,
    request_id: UUID,
) -> DepositAddress:
    """Credit the wallet, from now on, with what arrives at its key's address on this chain.

    A key that the known attester did not sign for is given to nobody: what was begun is undone, the signer is asked, and it is
    tried again. The attester may have been renewed, or the key be older than attestations. Raises KeyNotVouchedFor.
    """
    for _ in range(_TRIES):
        attester = await key_pool.attester_of(signer, principal.tenant)
        try:
            async with db.unit_of_work(principal.tenant) as uow:
                return await _give_key(uow, principal, wallet_id, chain, request_id, attester)
        except _Doubt as doubt:
            await key_check.ask_again(db, signer, principal.tenant, doubt.key)
    raise KeyNotVouchedFor(wallet_id=wallet_id)


async def _give_key(
    uow: UnitOfWork,
    principal: Principal,
    wallet_id: WalletId,
    chain: ChainId,
    request_id: UUID,
    attester: bytes,
) -> DepositAddress:
    await uow.lock(f"address/{principal.tenant}/{request_id}")
    known = await _find(uow, principal.tenant, wallet_id, chain, request_id)
    if known is not None:
        return known
    key = await pool.take(uow, principal.subject, wallet_id)
    if not key_pool.is_trusted(principal.tenant, key, attester):
        raise _Doubt(key)
    known = await _enabled(uow, wallet_id, chain)
    if known is not None:
        return known
    vault = await pool.open_vault(uow, principal.subject, chain, key)
    return await _add(uow, principal, wallet_id, vault, vault.account, None, request_id)


async def _enabled(uow: UnitOfWork, wallet_id: WalletId, chain: ChainId) -> DepositAddress | None:
    """The wallet's address on an EVM chain where it is credited already."""
    for address in await wallets.list_addresses(uow, wallet_id):
        if address.chain == chain:
            return address
    return None


class _Doubt(Exception):
    """A key was about to be given out on the word of a row alone."""

    def __init__(self, key: DepositKey) -> None:
        super().__init__(key.key_id)
        self.key = key


async def _make_vault(
    db: Database, signer: KeyMaker, principal: Principal, chain: ChainId, purpose: str, request_id: UUID
) -> Vault:
    vault_id = VaultId(derived_uuid("vault", principal.tenant, request_id))
    async with db.unit_of_work(principal.tenant) as uow:
        known = await store.insert_request(
            uow, request_id, chain=chain, purpose=purpose, wallet_id=None, vault_id=vault_id
        )
        if known != (chain, purpose, None):
            raise RequestExistsDifferent(request_id=request_id)
        try:
            return await wallets.get_vault(uow, vault_id)
        except UnknownVault:
            # Committed before the key is asked for: a key in the HSM can always be traced to who wanted it.
            pass
    key = await signer.create_key(
        request_id=request_id, tenant=principal.tenant, purpose=purpose, chain=chain
    )
    if addresses.account_of_key(chain, bytes.fromhex(key.public_key)) != key.account:
        raise KeyNotOurs(key_id=key.key_id, account=key.account)
    vault = Vault(
        id=vault_id,
        chain=chain,
        purpose=purpose,
        wallet_id=None,
        key_id=key.key_id,
        account=key.account,
    )
    async with db.unit_of_work(principal.tenant) as uow:
        await uow.lock(f"vault/{principal.tenant}/{vault_id}")
        try:
            return await wallets.get_vault(uow, vault_id)
        except UnknownVault:
            born_after = await store.requested_at(uow, request_id)
            made = await wallets.add_vault(uow, principal.subject, vault, unused_before=born_after)
        await store.close_request(uow, request_id)
        return made


async def _issue_tag(
    uow: UnitOfWork, principal: Principal, wallet_id: WalletId, chain: ChainId, request_id: UUID
) -> DepositAddress:
    vault = await wallets.omnibus(uow, chain)
    tag = await wallets.next_tag(uow, vault.id)
    return await _add(uow, principal, wallet_id, vault, muxed(vault.account, tag), tag, request_id)


async def _register_memo(
    uow: UnitOfWork,
    principal: Principal,
    wallet_id: WalletId,
    chain: ChainId,
    request_id: UUID,
    memo: AddressMemo,
) -> DepositAddress:
    vault = await wallets.omnibus(uow, chain)
    return await wallets.add_address(
        uow,
        principal.subject,
        DepositAddress(
            id=_address_id(principal.tenant, request_id),
            wallet_id=wallet_id,
            vault_id=vault.id,
            chain=chain,
            address=vault.account,
            account=vault.account,
            tag=None,
            memo_type=memo.type,
            memo=memo.words,
        ),
    )


async def _name_omnibus(
    uow: UnitOfWork, principal: Principal, wallet_id: WalletId, chain: ChainId, request_id: UUID
) -> DepositAddress:
    vault = await wallets.omnibus(uow, chain)
    owner = await wallets.attribute(uow, vault.id, None)
    if owner is None:
        return await _add(uow, principal, wallet_id, vault, vault.account, None, request_id)
    for address in await wallets.list_addresses(uow, wallet_id):
        if address.vault_id == vault.id:
            return address
    raise RequestExistsDifferent("another treasury wallet has this vault's own address", wallet_id=owner)


async def _add(
    uow: UnitOfWork,
    principal: Principal,
    wallet_id: WalletId,
    vault: Vault,
    address: str,
    tag: int | None,
    request_id: UUID,
) -> DepositAddress:
    return await wallets.add_address(
        uow,
        principal.subject,
        DepositAddress(
            id=_address_id(principal.tenant, request_id),
            wallet_id=wallet_id,
            vault_id=vault.id,
            chain=vault.chain,
            address=address,
            account=vault.account,
            tag=tag,
        ),
    )


async def _find(
    uow: UnitOfWork,
    tenant: TenantId,
    wallet_id: WalletId,
    chain: ChainId,
    request_id: UUID,
    memo: AddressMemo | None = None,
) -> DepositAddress | None:
    """The address that this request made before. Raises RequestExistsDifferent when it was for something else."""
    known = await wallets.find_address(uow, _address_id(tenant, request_id))
    words = None if memo is None else memo.words
    if known is not None and (known.wallet_id, known.chain, known.memo) != (wallet_id, chain, words):
        raise RequestExistsDifferent(request_id=request_id)
    return known


def _address_id(tenant: TenantId, request_id: UUID) -> AddressId:
    return AddressId(derived_uuid("address", tenant, request_id))
