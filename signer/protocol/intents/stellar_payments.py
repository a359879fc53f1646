"""Intents that pay on Stellar: one operation each, whose source is the custody account."""

from collections.abc import Mapping
from dataclasses import dataclass

from signer.protocol import fields as check
from signer.protocol.fields import MemoType
from signer.protocol.intents.header import STELLAR_HEADER, Header, Kind, Parser

CHANNELS = "channels"
"""Vault of the keys that lend their sequence numbers and fees, and so let one account send many transactions at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarHeader(Header):
    """What every intent has that becomes a Stellar transaction."""

    network_id: str
    """SHA-256 of the network passphrase, 64 lower-case hex characters."""
    max_fee: int
    """Highest fee of the whole transaction in stroops; of a contract call with its resource fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressed(StellarHeader):
    """To whom a payment goes."""

    destination: str
    """G address, or M address that carries the customer's id."""
    memo_type: MemoType
    """Kind of memo; must be "none" when the destination is an M address."""
    memo: str
    """"" for none, decimal for id, 1-28 printable ASCII characters for text, 64 hex characters for hash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarPayment(Addressed):
    """One Stellar payment operation from a custody account, in a transaction of its own."""

    asset: str
    """"native" or "CODE:ISSUER"."""
    amount: int
    """Stroops, 1 .. 2^63-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarChannelPayment(Addressed):
    """A payment in a transaction of a channel account, which lends the sequence number and pays the fee; both keys sign."""

    channel: str
    """G address of a key of the same org in the vault "channels": the transaction's source."""
    asset: str
    """"native" or "CODE:ISSUER"."""
    amount: int
    """Stroops, 1 .. 2^63-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarContractPayment(StellarHeader):
    """A payment to a contract: `transfer(source, destination, amount)` of the asset's own contract (CAP-46-6), authorized by
    the transaction's source account, with a footprint that holds only the entries of this payment.
    """

    destination: str
    """C address."""
    asset: str
    """"native" or "CODE:ISSUER", issuer not the source."""
    amount: int
    """Stroops, 1 .. 2^63-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarCreateAccount(StellarHeader):
    """Open an account with native money."""

    destination: str
    """G address that does not exist yet."""
    amount: int
    """Starting balance in stroops, 1 .. 2^63-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarClaimablePayment(Addressed):
    """A payment that the receiver has to fetch: money set aside on chain that the destination, and nobody else, may claim at any
    time. Until then the source has the entry's reserve locked, half a lumen, beside the amount.
    """

    asset: str
    """"native" or "CODE:ISSUER"."""
    amount: int
    """Stroops, 1 .. 2^63-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarPathSend(Addressed):
    """Send exactly `send_amount` and have at least `dest_min` of another asset arrive; to the source itself, a conversion."""

    send_asset: str
    """"native" or "CODE:ISSUER"."""
    send_amount: int
    """Stroops that leave, 1 .. 2^63-1."""
    dest_asset: str
    """"native" or "CODE:ISSUER"."""
    dest_min: int
    """Least that arrives in stroops, 1 .. 2^63-1."""
    path: str
    """Up to 5 assets between the two, joined by ","; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarPathReceive(Addressed):
    """Have exactly `dest_amount` arrive and let at most `send_max` of another asset leave; to the source itself, a conversion."""

    send_asset: str
    """"native" or "CODE:ISSUER"."""
    send_max: int
    """Most that leaves in stroops, 1 .. 2^63-1."""
    dest_asset: str
    """"native" or "CODE:ISSUER"."""
    dest_amount: int
    """Stroops that arrive, 1 .. 2^63-1."""
    path: str
    """Up to 5 assets between the two, joined by ","; "" for none."""


STELLAR: Mapping[str, Parser] = {
    **STELLAR_HEADER,
    "network_id": check.parse_hex32,
    "max_fee": check.parse_integer(100, 2**32 - 1),
}
_ADDRESSED: Mapping[str, Parser] = {
    **STELLAR,
    "destination": check.parse_destination,
    "memo_type": check.parse_memo_type,
    "memo": str,
}
_STROOPS = check.parse_integer(1, check.INT64_MAX)
_PAYMENT: Mapping[str, Parser] = {**_ADDRESSED, "asset": check.parse_asset, "amount": _STROOPS}
_PATH: Mapping[str, Parser] = {
    **_ADDRESSED,
    "send_asset": check.parse_asset,
    "dest_asset": check.parse_asset,
    "path": check.parse_path,
}


def _check_addressed(intent: Addressed) -> None:
    check.check_memo(intent.memo_type, intent.memo)
    if intent.destination.startswith("M") and intent.memo_type != "none":
        raise ValueError("memo_with_muxed", "memo_type")


def _check_payment(intent: StellarPayment | StellarChannelPayment | StellarClaimablePayment) -> None:
    _check_addressed(intent)
    if check.account_of(intent.destination) == check.account_of(intent.source):
        raise ValueError("self_transfer", "destination")
    if isinstance(intent, StellarChannelPayment) and intent.channel == intent.source:
        raise ValueError("self_transfer", "channel")


def _check_contract_payment(intent: StellarContractPayment) -> None:
    if intent.asset.partition(":")[2] == intent.source:
        raise ValueError("self_transfer", "asset")


def _check_create_account(intent: StellarCreateAccount) -> None:
    if intent.destination == intent.source:
        raise ValueError("self_transfer", "destination")


def _check_path(intent: StellarPathSend | StellarPathReceive) -> None:
    _check_addressed(intent)
    own = check.account_of(intent.destination) == check.account_of(intent.source)
    if own and intent.send_asset == intent.dest_asset:
        raise ValueError("self_transfer", "destination")


KINDS: Mapping[str, Kind] = {
    "stellar_payment": Kind(shape=StellarPayment, parsers=_PAYMENT, check=_check_payment),
    "stellar_channel_payment": Kind(
        shape=StellarChannelPayment,
        parsers={**_PAYMENT, "channel": check.parse_account},
        check=_check_payment,
    ),
    "stellar_contract_payment": Kind(
        shape=StellarContractPayment,
        parsers={
            **STELLAR,
            "destination": check.parse_contract,
            "asset": check.parse_asset,
            "amount": _STROOPS,
        },
        check=_check_contract_payment,
    ),
    "stellar_create_account": Kind(
        shape=StellarCreateAccount,
        parsers={**STELLAR, "destination": check.parse_account, "amount": _STROOPS},
        check=_check_create_account,
    ),
    "stellar_create_claimable_balance": Kind(
        shape=StellarClaimablePayment,
        # A claimant is an account: the id inside an M address would be lost.
        parsers={**_PAYMENT, "destination": check.parse_account},
        check=_check_payment,
    ),
    "stellar_path_payment_strict_send": Kind(
        shape=StellarPathSend,
        parsers={**_PATH, "send_amount": _STROOPS, "dest_min": _STROOPS},
        check=_check_path,
    ),
    "stellar_path_payment_strict_receive": Kind(
        shape=StellarPathReceive,
        parsers={**_PATH, "send_max": _STROOPS, "dest_amount": _STROOPS},
        check=_check_path,
    ),
}
