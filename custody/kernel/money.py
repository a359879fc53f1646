"""Money: an integer of atomic units and the asset it is of.

Arithmetic across assets raises. Text is parsed and printed here and nowhere else; a float never appears.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from custody.kernel.assetid import AssetId
from custody.kernel.errors import InvalidInput, InvariantViolated

MAX_ATOMIC = 2**256 - 1
"""The largest amount of any asset: an EVM token's uint256."""

_ATOMIC = re.compile(r"0|[1-9][0-9]{0,77}")
_UNITS = re.compile(r"(0|[1-9][0-9]{0,77})(?:\.([0-9]{1,78}))?")


class MalformedAmount(InvalidInput):
    """The text is not a plain decimal number of the expected precision."""

    code = "malformed_amount"
    public = "An amount is a string of digits: atomic units, without sign, point, exponent or leading zero."


class AmountTooLarge(InvalidInput):
    """The amount does not fit the asset's range."""

    code = "amount_too_large"
    public = "The amount is larger than the asset allows."


class AmountNotPositive(InvalidInput):
    """The amount is zero or negative where money has to move."""

    code = "amount_not_positive"
    public = "The amount must be greater than zero."


class AssetMismatch(InvariantViolated):
    """Two amounts of different assets met in one calculation."""

    code = "asset_mismatch"
    public = "Amounts of different assets cannot be combined."


@dataclass(frozen=True, slots=True)
class Amount:
    """So many atomic units of one asset. May be negative as a difference; commands demand more than zero."""

    asset: AssetId
    """What it is of."""
    atomic: int
    """Atomic units: stroops, wei, cents."""

    def __add__(self, other: Amount) -> Amount:
        self._same(other)
        return Amount(self.asset, self.atomic + other.atomic)

    def __sub__(self, other: Amount) -> Amount:
        self._same(other)
        return Amount(self.asset, self.atomic - other.atomic)

    def __lt__(self, other: Amount) -> bool:
        self._same(other)
        return self.atomic < other.atomic

    def __le__(self, other: Amount) -> bool:
        self._same(other)
        return self.atomic <= other.atomic

    def _same(self, other: Amount) -> None:
        if self.asset != other.asset:
            raise AssetMismatch(left=self.asset.text, right=other.asset.text)


def parse_atomic(text: str) -> int:
    """Atomic units from a client's text: zero to MAX_ATOMIC. Raises MalformedAmount, AmountTooLarge."""
    if not _ATOMIC.fullmatch(text):
        raise MalformedAmount(amount=text[:100])
    value = int(text)
    if value > MAX_ATOMIC:
        raise AmountTooLarge(amount=text)
    return value


def parse_positive(text: str) -> int:
    """Atomic units of money that is to move: one to MAX_ATOMIC. Raises also AmountNotPositive."""
    if text.startswith("-") and _ATOMIC.fullmatch(text[1:]):
        raise AmountNotPositive(amount=text)
    value = parse_atomic(text)
    if value == 0:
        raise AmountNotPositive(amount=text)
    return value


def parse_units(text: str, decimals: int) -> int:
    """Atomic units from a person's decimal text such as `12.5`. More decimals than the asset has are refused, never rounded."""
    found = _UNITS.fullmatch(text)
    if found is None or len(found[2] or "") > decimals:
        raise MalformedAmount(amount=text[:100], decimals=decimals)
    value = int(found[1] + (found[2] or "").ljust(decimals, "0"))
    if value > MAX_ATOMIC:
        raise AmountTooLarge(amount=text)
    return value


def format_units(atomic: int, decimals: int) -> str:
    """The decimal text of atomic units, with all of the asset's decimals: `12.5000000`."""
    sign = "-" if atomic < 0 else ""
    digits = str(abs(atomic)).rjust(decimals + 1, "0")
    if decimals == 0:
        return sign + digits
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"
