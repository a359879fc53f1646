"""What an approver agrees to and the signer signs: one frozen value per kind of effect.

Every field is required and plain (str or int); the header fields are the same in all kinds and are repeated
on purpose, so that each kind can be read alone. Amounts and fees are integers of atomic units. Times are unix
seconds. The canonical bytes and the checks on every field are in `canonical`; the byte-level specification is
SPEC.md.
"""

from dataclasses import dataclass
from typing import Literal

MemoType = Literal["none", "id", "text", "hash"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarPayment:
    """One Stellar payment operation from a custody account, in a transaction of its own."""

    org: str
    """Tenant that owns the key."""
    vault: str
    """Group of keys inside the tenant that policy speaks about."""
    key_id: str
    """CKA_ID of the HSM key, 32 lower-case hex characters."""
    chain: str
    """CAIP-2 chain name, "stellar:NAME"."""
    request_id: str
    """UUID given by the requester; makes two equal payments two intents."""
    initiator: str
    """Principal who asked; may veto but never approve."""
    policy_version: int
    """Version of the signer's policy that the approvers saw; any other version in force refuses."""
    not_before: int
    """Unix seconds before which the signer refuses."""
    expires_at: int
    """Unix seconds from which on the signer refuses; also the highest time bound of the transaction."""
    network_id: str
    """SHA-256 of the network passphrase, 64 lower-case hex characters."""
    source: str
    """G address of the key, transaction and operation source."""
    destination: str
    """G address, or M address that carries the customer's id."""
    memo_type: MemoType
    """Kind of memo; must be "none" when the destination is an M address."""
    memo: str
    """"" for none, decimal for id, 1-28 printable ASCII characters for text, 64 hex characters for hash."""
    asset: str
    """"native" or "CODE:ISSUER"."""
    amount: int
    """Stroops, 1 .. 2^63-1."""
    max_fee: int
    """Highest fee of the whole transaction in stroops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarChangeTrust:
    """Open, change or (limit 0) remove the trustline of a custody account. Header fields as in
    `StellarPayment`.
    """

    org: str
    vault: str
    key_id: str
    chain: str
    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    network_id: str
    source: str
    asset: str
    """"CODE:ISSUER"; native has no trustline."""
    limit: int
    """Highest balance that the line may hold, in stroops; 0 removes the line."""
    max_fee: int
    """Highest fee of the whole transaction in stroops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarAnchor:
    """Write 32 bytes into the chain's history: a custody account pays itself one stroop, with the hash as memo. Nothing
    but the fee leaves the account. Header fields as in `StellarPayment`.
    """

    org: str
    vault: str
    key_id: str
    chain: str
    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    network_id: str
    source: str
    """G address of the key: who pays and who is paid."""
    hash: str
    """What is written down, 64 lower-case hex characters."""
    max_fee: int
    """Highest fee of the whole transaction in stroops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmTransfer:
    """Native value from a custody account by an EIP-1559 transaction. Header fields as in `StellarPayment`."""

    org: str
    vault: str
    key_id: str
    chain: str
    """CAIP-2 chain name, "eip155:CHAIN_ID"."""
    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    chain_id: int
    """EIP-155 chain id; must equal the number in `chain`."""
    source: str
    """EIP-55 address of the key."""
    destination: str
    """EIP-55 address that receives."""
    amount: int
    """Wei, 1 .. 2^256-1."""
    gas_limit: int
    """Gas units that the transaction may use."""
    max_fee_per_gas: int
    """Highest total price per gas unit in wei that the requester may bind."""
    max_priority_fee_per_gas: int
    """Highest tip per gas unit in wei that the requester may bind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmErc20Transfer:
    """ERC-20 `transfer(destination, amount)` by an EIP-1559 transaction of value 0. Fields as in
    `EvmTransfer`.
    """

    org: str
    vault: str
    key_id: str
    chain: str
    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    chain_id: int
    source: str
    token: str
    """EIP-55 address of the token contract."""
    destination: str
    """EIP-55 address that receives the tokens."""
    amount: int
    """Token units, 1 .. 2^256-1."""
    gas_limit: int
    max_fee_per_gas: int
    max_priority_fee_per_gas: int


Intent = StellarPayment | StellarChangeTrust | StellarAnchor | EvmTransfer | EvmErc20Transfer
StellarIntent = StellarPayment | StellarChangeTrust | StellarAnchor
EvmIntent = EvmTransfer | EvmErc20Transfer
