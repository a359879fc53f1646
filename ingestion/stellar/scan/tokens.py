"""Token events as they stand in the bytes of a ledger, found by one pattern. Pure.

Nothing here is believed yet: which contract speaks for which asset is judged where events become movements.
Source: CAP-67; SEP-41 0.5.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ingestion.stellar.scan.patterns import Patterns, any_of, compile_pattern, either

_KINDS = (b"transfer", b"mint", b"burn", b"clawback", b"fee")


class RawEvent(NamedTuple):
    """A token event by name and shape. A plain tuple: a ledger holds thousands."""

    kind: bytes
    """`transfer`, `mint`, `burn`, `clawback` or `fee`."""
    contract: bytes
    """The 32 bytes of the contract that emitted it."""
    first: bytes
    """The first address, as XDR."""
    second: bytes
    """The second address, as XDR; empty where there is none."""
    asset: bytes
    """The asset's name in the last topic; empty where there is none."""
    amount: int
    muxed: tuple[str, bytes] | None
    """`to_muxed_id` as its kind (`u64`, `bytes`, `string`) and its bytes."""


class TokenPatterns:
    """Reads token events of one grammar."""

    def __init__(self, patterns: Patterns) -> None:
        """Built once for all ledgers."""
        address = any_of((18,)) + b"(%s)" % patterns.of("SCAddress")
        text = patterns.of("SCString")
        # ext, the contract's id, type CONTRACT, body 0, the number of topics, then a symbol.
        head = any_of((0,)) + any_of((1,)) + b"(.{32})" + any_of((1,)) + any_of((0,)) + rb"\0\0\0(.)"
        name = any_of((15,)) + either([_symbol(kind, group=True) for kind in _KINDS])
        i128 = any_of((10,)) + b"(.{16})"
        muxed = any_of((15,)) + _symbol(b"to_muxed_id")
        value = either(
            [any_of((5,)) + b"(.{8})", any_of((13,)) + b"(%s)" % text, any_of((14,)) + b"(%s)" % text]
        )
        table = any_of((17,)) + any_of((1,))
        amount = any_of((15,)) + _symbol(b"amount") + i128
        data = [i128, table + any_of((1,)) + amount, table + any_of((2,)) + amount + muxed + value]
        named = b"(?>%s)?" % (any_of((14,)) + b"(%s)" % text)
        self._event = compile_pattern(head + name + address + b"(?>%s)?" % address + named + either(data))
        self._suspect = compile_pattern(head + name)

    def find(self, data: bytes, at: int) -> re.Match[bytes] | None:
        """The token event at this offset, to be read by `read`; None when there is none of the usual form."""
        found = self._event.match(data, at)
        if found is None or found[2][0] != 2 + (found[9] is not None) + (found[10] is not None):
            return None
        return found

    def is_suspect(self, data: bytes, at: int) -> bool:
        """Whether a contract here says the name of a token event, in whatever form."""
        return self._suspect.match(data, at) is not None


def addresses(found: re.Match[bytes]) -> tuple[bytes, bytes | None]:
    """Its addresses as XDR, the second where it has one."""
    return found[8], found[9]


def read(found: re.Match[bytes]) -> RawEvent:
    """What the pattern found."""
    (contract, _, transfer, mint, burn, clawback, fee, first, second, asset, *data) = found.groups()
    plain, alone, beside, number, raw, words = data
    return RawEvent(
        kind=transfer or mint or burn or clawback or fee,
        contract=contract,
        first=first,
        second=second or b"",
        asset=asset[4 : 4 + asset[3]] if asset is not None else b"",
        amount=int.from_bytes(plain or alone or beside, "big", signed=True),
        muxed=_muxed(number, raw, words),
    )


def _symbol(text: bytes, *, group: bool = False) -> bytes:
    padding = bytes(-len(text) % 4)
    return any_of((len(text),)) + (b"(%s)" % text if group else text) + re.escape(padding)


def _muxed(number: bytes | None, raw: bytes | None, words: bytes | None) -> tuple[str, bytes] | None:
    if number is not None:
        return "u64", number
    if raw is not None:
        return "bytes", raw[4 : 4 + raw[3]]
    return None if words is None else ("string", words[4 : 4 + words[3]])
