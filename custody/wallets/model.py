"""Whose money, and where on the chains it lies."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from custody.chains.stellar.memo import show_words
from custody.kernel.assetid import ChainId
from custody.kernel.ids import AddressId, CustomerId, TenantId, VaultId, WalletId

CUSTOMER_KINDS = ("customer", "treasury")
"""A customer of the tenant, or the tenant itself: its own money, out of which it pays fees and fills vaults."""

VAULT_PURPOSES = ("omnibus", "deposit", "channels", "fees", "gas", "warm", "cold")
"""Omnibus vaults hold many wallets' money and pay withdrawals: they are hot. Warm and cold vaults keep what is not needed soon,
under quorums of their own. A deposit vault is one wallet's own address. On Stellar, channels lend their sequence numbers to
payments of the omnibus vault, and the fee account pays for fee bumps; on EVM the gas vault pays for sweeps of tokens."""

MAX_TAG = 2**64 - 1
"""Largest muxed id. Source: SEP-23."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Somebody for whom the tenant holds money."""

    id: CustomerId
    """Shown as `cus_…`."""
    name: str
    """What the tenant calls them."""
    external_ref: str
    """The tenant's own id for them. Unique."""
    kind: str
    """One of CUSTOMER_KINDS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wallet:
    """What a customer owns, one balance per asset, kept in the ledger as liabilities of ours."""

    id: WalletId
    """Shown as `wal_…`."""
    customer_id: CustomerId
    """Whose it is."""
    name: str
    """What the tenant calls it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vault:
    """One HSM key of ours on one chain, and the account or address it controls: real money, an asset in the ledger."""

    id: VaultId
    """Shown as `vlt_…`; also the vault's name in intents."""
    chain: ChainId
    """Where."""
    purpose: str
    """One of VAULT_PURPOSES."""
    wallet_id: WalletId | None
    """The wallet whose deposit vault this is. None for every vault that is no deposit vault, and for the account of a deposit
    key on a chain where nobody may be credited yet."""
    key_id: str
    """The key's CKA_ID in the HSM, 32 hexadecimal digits."""
    account: str
    """`G…` on Stellar, a checksummed `0x…` on EVM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositAddress:
    """Where outsiders send money for one wallet."""

    id: AddressId
    """Shown as `adr_…`."""
    wallet_id: WalletId
    """Whose money arrives there."""
    vault_id: VaultId
    """The vault that receives it."""
    chain: ChainId
    """On which chain."""
    address: str
    """What is shown to people: `M…` on Stellar, `0x…` on EVM."""
    account: str
    """What the chain sees."""
    tag: int | None
    """Muxed id or memo id that names the wallet; None where a memo of another type or the account itself does."""
    memo_type: str | None = None
    """Type of the memo that names the wallet, where it is no id: one of `chains.stellar.memo.MEMO_TYPES`."""
    memo: str | None = None
    """That memo's words, as arrivals have them."""

    @property
    def shown_memo(self) -> tuple[str | None, str | None]:
        """Type and value of the memo that a sender to the account writes; None twice where none is needed."""
        if self.tag is not None:
            return "id", str(self.tag)
        return self.memo_type, None if self.memo is None else show_words(self.memo)


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultRef:
    """A vault found by its account, in whichever tenant."""

    tenant: TenantId
    """Whose vault."""
    vault_id: VaultId
    """Which."""
    account: str
    """The account it was found by."""
    is_open: bool = True
    """False for the account of a deposit key that has no vault on this chain yet, only the name that it will have there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DepositKey:
    """A secp256k1 key made ahead of need. It goes to one wallet, for good; its address is the wallet's on every EVM chain."""

    key_id: str
    """Its name in the HSM, 32 hexadecimal digits."""
    account: str
    """Its address, EIP-55."""
    public_key: bytes | None
    """65 bytes; None for a key that was given out before such keys were made ahead, until the signer has vouched for it."""
    attestation: bytes | None
    """The signer's signature that the key is its own and this tenant's; None as above."""
    state: str
    """One of `transitions.DEPOSIT_KEYS`."""
    wallet_id: WalletId | None
    """Whose it is; None while it is free, and when it was set aside."""
    batch_id: UUID | None
    """The batch it was made in; None for a key that was not made ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyBatch:
    """Keys that were asked of the signer together."""

    id: UUID
    """The request's id: the signer answers the same one with the same keys."""
    size: int
    """How many."""
    state: str
    """One of `transitions.KEY_BATCHES`."""
    refusal: str
    """Code of the signer's last refusal; empty when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolDepth:
    """How a tenant's pool of deposit keys stands."""

    free: int
    """Keys that wait for a wallet."""
    taken: int
    """Keys that wallets have."""
    set_aside: int
    """Keys that nobody will get."""
    asked: KeyBatch | None
    """The batch that is being made."""
