"""Token events as they stand in the bytes of a ledger, found by one pattern. Pure.

Nothing here is believed yet: which contract speaks for which asset is judged where events become movements.
Source: CAP-67; SEP-41 0.5.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from stellar_sdk import xdr

from ingestion.stellar.scan.patterns import Patterns, any_of, compile_pattern, either, symbol

_KINDS = (b"transfer", b"mint", b"burn", b"clawback", b"fee")


class RawEvent(NamedTuple):
    """A token event by name and shape. A plain tuple: a ledger holds thousands."""

    kind: bytes
    """`transfer`, `mint`, `burn`, `clawback` or `fee`."""
    contract: bytes
    """The 32 bytes of the contract that emitted it."""
    addresses: tuple[bytes, ...]
    """The addresses among its topics, as XDR: one or two."""
    asset: bytes | None
    """The asset's name, where the last topic is a text."""
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
        name = any_of((15,)) + either([symbol(kind, group=True) for kind in _KINDS])
        i128 = any_of((10,)) + b"(.{16})"
        muxed = any_of((15,)) + symbol(b"to_muxed_id")
        value = either(
            [any_of((5,)) + b"(.{8})", any_of((13,)) + b"(%s)" % text, any_of((14,)) + b"(%s)" % text]
        )
        table = any_of((17,)) + any_of((1,))
        amount = any_of((15,)) + symbol(b"amount") + i128
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


def addresses_in(found: re.Match[bytes]) -> tuple[bytes, ...]:
    """Its addresses as XDR."""
    return (found[8],) if found[9] is None else (found[8], found[9])


def read_event(found: re.Match[bytes]) -> RawEvent:
    """What the pattern found."""
    (contract, _, transfer, mint, burn, clawback, fee, _, _, asset, *data) = found.groups()
    plain, alone, beside, number, raw, words = data
    return RawEvent(
        kind=transfer or mint or burn or clawback or fee,
        contract=contract,
        addresses=addresses_in(found),
        asset=None if asset is None else _content(asset),
        amount=int.from_bytes(plain or alone or beside, "big", signed=True),
        muxed=_muxed(number, raw, words),
    )


def decode_event(event: bytes) -> RawEvent | None:
    """The same by the SDK, for an event in a form that the pattern does not know; None when it is no token event.

    Token events may hold further fields beside the amount. Source: SEP-41 0.5.
    """
    found = xdr.ContractEvent.from_xdr_bytes(event)
    body = found.body.v0
    if found.contract_id is None or body is None or not body.topics or body.topics[0].sym is None:
        return None
    topics = body.topics[1:]
    asset = topics.pop().str if topics and topics[-1].str is not None else None
    addresses = tuple(each.address.to_xdr_bytes() for each in topics if each.address is not None)
    data = _decode_data(body.data)
    if data is None or len(addresses) != len(topics) or not 1 <= len(topics) <= 2:
        return None
    return RawEvent(
        kind=body.topics[0].sym.sc_symbol,
        contract=found.contract_id.contract_id.hash,
        addresses=addresses,
        asset=None if asset is None else asset.sc_string,
        amount=data[0],
        muxed=data[1],
    )


def _decode_data(data: xdr.SCVal) -> tuple[int, tuple[str, bytes] | None] | None:
    fields = {b"amount": data}
    if data.map is not None:
        fields = {each.key.sym.sc_symbol: each.val for each in data.map.sc_map if each.key.sym is not None}
    amount = fields[b"amount"].i128 if b"amount" in fields else None
    if amount is None:
        return None
    muxed, found = fields.get(b"to_muxed_id"), None
    if muxed is not None and muxed.u64 is not None:
        found = "u64", muxed.u64.to_xdr_bytes()
    elif muxed is not None and muxed.bytes is not None:
        found = "bytes", muxed.bytes.sc_bytes
    elif muxed is not None and muxed.str is not None:
        found = "string", muxed.str.sc_string
    return (amount.hi.int64 << 64) | amount.lo.uint64, found


def _content(text: bytes) -> bytes:
    """What a text of at most 72 bytes holds: its length is in its fourth byte."""
    return text[4 : 4 + text[3]]


def _muxed(number: bytes | None, raw: bytes | None, words: bytes | None) -> tuple[str, bytes] | None:
    if number is not None:
        return "u64", number
    if raw is not None:
        return "bytes", _content(raw)
    return None if words is None else ("string", _content(words))
