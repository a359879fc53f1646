"""Intents about a Stellar custody account itself: its trustlines, signers and end, what it claims, writes down, asks of senders
and bids again."""

from collections.abc import Mapping
from dataclasses import dataclass

from signer.protocol import fields as check
from signer.protocol.intents.header import Kind, nothing_more
from signer.protocol.intents.stellar_payments import STELLAR, StellarHeader


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarChangeTrust(StellarHeader):
    """Open, change or (limit 0) remove the trustline of a custody account."""

    asset: str
    """"CODE:ISSUER"; native has no trustline."""
    limit: int
    """Highest balance that the line may hold, in stroops; 0 removes the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarAnchor(StellarHeader):
    """Write 32 bytes into the chain's history: a custody account pays itself one stroop, with the hash as memo. Nothing
    but the fee leaves the account.
    """

    hash: str
    """What is written down, 64 lower-case hex characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarAccountMerge(StellarHeader):
    """End a custody account and move all its native money to another custody account of the same org."""

    destination: str
    """G address of another key of the same org."""
    destination_vault: str
    """Vault of that key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarSetOptions(StellarHeader):
    """Change who signs for a custody account: one signer, the key's own weight, the thresholds. "" leaves a value as it is.

    Whether the account's weights still reach its thresholds afterwards depends on what the chain holds, which the signer does
    not see. It refuses the one lock-out that can be judged here: a key without weight and no signer put in its place.
    """

    signer_key: str
    """G address of a signer that is added or changed, or (weight 0) removed; "" for none."""
    signer_weight: str
    """0 .. 255; "" exactly when there is no `signer_key`."""
    master_weight: str
    """Weight of the account's own key, 0 .. 255."""
    low_threshold: str
    """0 .. 255."""
    med_threshold: str
    """0 .. 255."""
    high_threshold: str
    """0 .. 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarClaimBalance(StellarHeader):
    """Claim a claimable balance; what arrives is as the balance's creator made it. Nothing but the fee leaves the account."""

    balance_id: str
    """Hash of the balance, 64 lower-case hex characters: its ledger id without the leading type (v0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarMemoRequired(StellarHeader):
    """Have a custody account ask senders for a memo: its data entry `config.memo_required` becomes "1". Nothing but the fee
    leaves the account, and no other entry can be said. Source: SEP-29.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarFeeBump(StellarHeader):
    """Raise the fee of a transaction that this signer has signed (CAP-15); `source` pays all of it, the inner one nothing.

    The inner transaction comes from the signer's own record, signatures included, and not from the requester.
    """

    inner: str
    """Digest of the intent that became the inner transaction, 64 lower-case hex characters."""


def _check_trust(intent: StellarChangeTrust) -> None:
    if intent.asset.partition(":")[2] == intent.source:
        raise ValueError("self_transfer", "asset")


def _check_merge(intent: StellarAccountMerge) -> None:
    if intent.destination == intent.source:
        raise ValueError("self_transfer", "destination")


def _check_options(intent: StellarSetOptions) -> None:
    thresholds = (intent.low_threshold, intent.med_threshold, intent.high_threshold)
    if (intent.signer_key == "") != (intent.signer_weight == ""):
        raise ValueError("out_of_range", "signer_weight")
    if not any((intent.signer_key, intent.master_weight, *thresholds)):
        raise ValueError("no_effect", "")
    if intent.signer_key == intent.source:
        raise ValueError("self_transfer", "signer_key")
    if intent.master_weight == "0" and intent.signer_weight in ("", "0"):
        raise ValueError("lock_out", "master_weight")
    given = [int(threshold) for threshold in thresholds if threshold]
    if given != sorted(given):
        raise ValueError("lock_out", "high_threshold")


_WEIGHT = check.parse_unless_empty(check.parse_integer(0, 255))

KINDS: Mapping[str, Kind] = {
    "stellar_change_trust": Kind(
        shape=StellarChangeTrust,
        parsers={
            **STELLAR,
            "asset": check.parse_credit_asset,
            "limit": check.parse_integer(0, check.INT64_MAX),
        },
        check=_check_trust,
    ),
    "stellar_anchor": Kind(
        shape=StellarAnchor, parsers={**STELLAR, "hash": check.parse_hex32}, check=nothing_more
    ),
    "stellar_account_merge": Kind(
        shape=StellarAccountMerge,
        parsers={**STELLAR, "destination": check.parse_account, "destination_vault": check.parse_name},
        check=_check_merge,
    ),
    "stellar_set_options": Kind(
        shape=StellarSetOptions,
        parsers={
            **STELLAR,
            "signer_key": check.parse_unless_empty(check.parse_account),
            "signer_weight": _WEIGHT,
            "master_weight": _WEIGHT,
            "low_threshold": _WEIGHT,
            "med_threshold": _WEIGHT,
            "high_threshold": _WEIGHT,
        },
        check=_check_options,
    ),
    "stellar_claim_claimable_balance": Kind(
        shape=StellarClaimBalance, parsers={**STELLAR, "balance_id": check.parse_hex32}, check=nothing_more
    ),
    "stellar_memo_required": Kind(shape=StellarMemoRequired, parsers=STELLAR, check=nothing_more),
    "stellar_fee_bump": Kind(
        shape=StellarFeeBump, parsers={**STELLAR, "inner": check.parse_hex32}, check=nothing_more
    ),
}
