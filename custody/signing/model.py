"""What the signer takes and gives, in this side's words."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerKey:
    """One key in the HSM. The private half never leaves it."""

    key_id: str
    """CKA_ID, hexadecimal."""
    curve: str
    """`ed25519` or `secp256k1`."""
    public_key: str
    """Hexadecimal."""
    account: str
    """G address or EIP-55 address of the key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VouchedKey:
    """A secp256k1 key for deposits, with the signer's word for it. Checked already: by whom the signer says it is."""

    key_id: str
    """CKA_ID, hexadecimal."""
    public_key: bytes
    """65 bytes, 04‖X‖Y."""
    attestation: bytes
    """Ed25519, 64 bytes; see `attestations.is_vouched_for`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldKey:
    """One key as the signer shows it to operators."""

    key_id: str
    """CKA_ID, hexadecimal."""
    vault: str
    """Purpose of the vaults that it serves."""
    curve: str
    label: str
    public_key: str
    """Hexadecimal."""
    account: str
    storage: str
    """`token`, or `wrapped`: kept outside it under its wrapping key."""
    origin: str
    """`born` inside the HSM, or `ceremony`."""
    state: str
    """As NIST SP 800-57 names it; only an `active` key signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedCopy:
    """A wrapped key as a backup keeps it. Useless without the wrapping key, which no backup holds."""

    key_id: str
    vault: str
    label: str
    public_key: bytes
    blob: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarSlot:
    """What a Stellar transaction needs beyond its intent. An intent is bound to one slot for good."""

    sequence: int
    """Sequence number of the transaction."""
    max_time: int
    """Unix seconds after which it can no longer apply."""
    max_ledger: int
    """First ledger in which it can no longer apply."""
    fee: int
    """Fee bid of the whole transaction in stroops."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmSlot:
    """What an EVM transaction needs beyond its intent. An intent is bound to one slot for good."""

    nonce: int
    """Account nonce."""
    max_fee_per_gas: int
    """Wei per gas."""
    max_priority_fee_per_gas: int
    """Wei per gas."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeSlot:
    """What a Stellar fee bump needs beyond its intent: sequence and bounds are those of what it is wrapped around."""

    fee: int
    """Fee bid of the whole envelope in stroops."""


Slot = StellarSlot | EvmSlot | FeeSlot


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """Bytes that may be sent to the chain any number of times and take effect at most once."""

    tx: bytes
    """Stellar: transaction envelope in XDR. EVM: raw EIP-1559 transaction."""
    tx_hash: str
    """Name of the transaction on its chain, hexadecimal; EVM hashes carry 0x."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSignature:
    """The signature of a checkpoint key under a seal of the ledger."""

    key_id: str
    """CKA_ID of the key, hexadecimal."""
    public_key: bytes
    """Ed25519, 32 bytes."""
    signature: bytes
    """Ed25519, 64 bytes, over `checkpoints.message_of`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignerHealth:
    """The signer is able to sign."""

    policy_version: int
    """Version in force."""
    journal_count: int
    """Entries in its journal; this and the two that follow are the anchor in its token."""
    journal_head: str
    """Hash that chains these entries, 64 hex."""
    policy_hash: str
    """Of the policy in force after these entries, 64 hex."""
    keys: int
    """Keys that it knows."""
