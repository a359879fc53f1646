"""Intents that become one EIP-1559 transaction of a custody key."""

from collections.abc import Mapping
from dataclasses import dataclass

from signer.protocol import fields as check
from signer.protocol.intents.header import EVM_HEADER, Header, Kind, Parser

ALLOWANCE_MAX = 2**96 - 2
"""Largest allowance that may be approved. Known tokens read 2^256-1 and 2^96-1 as an allowance without end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmHeader(Header):
    """What every intent has that becomes an EVM transaction."""

    chain_id: int
    """EIP-155 chain id; must equal the number in `chain`."""
    gas_limit: int
    """Gas units that the transaction may use."""
    max_fee_per_gas: int
    """Highest total price per gas unit in wei that the requester may bind."""
    max_priority_fee_per_gas: int
    """Highest tip per gas unit in wei that the requester may bind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmTransfer(EvmHeader):
    """Native value from a custody account."""

    destination: str
    """EIP-55 address that receives."""
    amount: int
    """Wei, 1 .. 2^256-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmErc20Transfer(EvmHeader):
    """ERC-20 `transfer(destination, amount)` by a transaction of value 0."""

    token: str
    """EIP-55 address of the token contract."""
    destination: str
    """EIP-55 address that receives the tokens."""
    amount: int
    """Token units, 1 .. 2^256-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmSweep(EvmHeader):
    """Native value from a deposit address to another custody address of the same org."""

    destination: str
    """EIP-55 address of another key of the same org."""
    destination_vault: str
    """Vault of that key."""
    amount: int
    """Wei, 1 .. 2^256-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmErc20Sweep(EvmHeader):
    """Tokens from a deposit address to another custody address of the same org."""

    token: str
    """EIP-55 address of the token contract."""
    destination: str
    """EIP-55 address of another key of the same org."""
    destination_vault: str
    """Vault of that key."""
    amount: int
    """Token units, 1 .. 2^256-1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmErc20Approve(EvmHeader):
    """ERC-20 `approve(spender, amount)`: the spender may take up to `amount` later, without the signer being asked again."""

    token: str
    """EIP-55 address of the token contract."""
    spender: str
    """EIP-55 address that may take the tokens."""
    amount: int
    """Token units, 1 .. 2^96-2; 0 takes the allowance back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmReplace(EvmHeader):
    """The same effect on the same nonce as an intent that was signed, at a higher price. Exactly one of the two can be mined.

    The transaction is rebuilt from the named intent in the signer's record; the effect stands here for those who approve, and
    the signer refuses when it is not the recorded one.
    """

    replaces: str
    """Digest of the first intent on the nonce, 64 lower-case hex characters."""
    replaced_kind: str
    """Kind of that intent."""
    asset: str
    """What it moves: "native" or the token's EIP-55 address."""
    destination: str
    """Who receives, or may spend."""
    amount: int
    """How much, in atomic units of the asset."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmCancel(EvmHeader):
    """A transfer of nothing to itself on the nonce of an intent that was signed. Until one of the two is mined, both can be."""

    cancels: str
    """Digest of the first intent on the nonce, 64 lower-case hex characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmFill(EvmHeader):
    """A transfer of nothing to itself on a nonce that nothing was signed for: what waits behind the gap can be mined."""


_HEADER: Mapping[str, Parser] = {
    **EVM_HEADER,
    "chain_id": check.parse_integer(1, check.INT64_MAX),
    "gas_limit": check.parse_integer(21_000, check.GAS_MAX),
    "max_fee_per_gas": check.parse_integer(1, 2**96 - 1),
    "max_priority_fee_per_gas": check.parse_integer(0, 2**96 - 1),
}
_AMOUNT = check.parse_integer(1, check.UINT256_MAX)
_TRANSFER: Mapping[str, Parser] = {**_HEADER, "destination": check.parse_evm_address, "amount": _AMOUNT}
_TOKEN: Mapping[str, Parser] = {"token": check.parse_evm_address}
_INTO: Mapping[str, Parser] = {"destination_vault": check.parse_name}
REPLACEABLE = ("evm_transfer", "evm_erc20_transfer", "evm_sweep", "evm_erc20_sweep", "evm_erc20_approve")


def _parse_asset(text: str) -> str:
    return text if text == "native" else check.parse_evm_address(text)


def _parse_replaceable(text: str) -> str:
    if text not in REPLACEABLE:
        raise ValueError("unknown_kind")
    return text


def _check_frame(intent: EvmHeader) -> None:
    if intent.chain != f"eip155:{intent.chain_id}":
        raise ValueError("chain_mismatch", "chain_id")
    if intent.max_priority_fee_per_gas > intent.max_fee_per_gas:
        raise ValueError("out_of_range", "max_priority_fee_per_gas")


def _check_transfer(intent: EvmTransfer | EvmErc20Transfer | EvmSweep | EvmErc20Sweep) -> None:
    _check_frame(intent)
    if intent.destination.lower() == intent.source.lower():
        raise ValueError("self_transfer", "destination")
    if isinstance(intent, EvmErc20Transfer | EvmErc20Sweep):
        _check_apart(intent.token, intent.destination, intent.source)


def _check_approve(intent: EvmErc20Approve) -> None:
    _check_frame(intent)
    if intent.spender.lower() == intent.source.lower():
        raise ValueError("self_transfer", "spender")
    _check_apart(intent.token, intent.spender, intent.source)


def _check_apart(token: str, *others: str) -> None:
    if token.lower() in {other.lower() for other in others}:
        raise ValueError("self_transfer", "token")


KINDS: Mapping[str, Kind] = {
    "evm_transfer": Kind(shape=EvmTransfer, parsers=_TRANSFER, check=_check_transfer),
    "evm_erc20_transfer": Kind(
        shape=EvmErc20Transfer, parsers={**_TRANSFER, **_TOKEN}, check=_check_transfer
    ),
    "evm_sweep": Kind(shape=EvmSweep, parsers={**_TRANSFER, **_INTO}, check=_check_transfer),
    "evm_erc20_sweep": Kind(
        shape=EvmErc20Sweep, parsers={**_TRANSFER, **_TOKEN, **_INTO}, check=_check_transfer
    ),
    "evm_erc20_approve": Kind(
        shape=EvmErc20Approve,
        parsers={
            **_HEADER,
            **_TOKEN,
            "spender": check.parse_evm_address,
            "amount": check.parse_integer(0, ALLOWANCE_MAX),
        },
        check=_check_approve,
    ),
    "evm_replace": Kind(
        shape=EvmReplace,
        parsers={
            **_HEADER,
            "replaces": check.parse_hex32,
            "replaced_kind": _parse_replaceable,
            "asset": _parse_asset,
            "destination": check.parse_evm_address,
            "amount": check.parse_integer(0, check.UINT256_MAX),
        },
        check=_check_frame,
    ),
    "evm_cancel": Kind(
        shape=EvmCancel, parsers={**_HEADER, "cancels": check.parse_hex32}, check=_check_frame
    ),
    "evm_fill": Kind(shape=EvmFill, parsers=_HEADER, check=_check_frame),
}
