"""Payments, read back from their bytes: what was packed is held against the intent field by field before it is signed.

Only what the signer itself packs for a payment can be read here; everything else is refused, another spelling of the same too.
It shares no code with `stellar_frame`, which packs. The SDK, which reads back all other kinds, costs three times as much; the
tests hold every reading here against the SDK's. Source: Stellar-transaction.x, RFC 4506.
"""

from struct import Struct, error
from typing import NamedTuple

from signer.protocol.fields import payload_of
from signer.protocol.intent import StellarChannelPayment, StellarPayment
from signer.protocol.messages import StellarBinding
from signer.refusal import Refusal

_UNSIGNED_32, _UNSIGNED_64, _SIGNED_64 = Struct(">I"), Struct(">Q"), Struct(">q")
_MEMO_KINDS = ("none", "text", "id", "hash")
_MEMO_TEXT_MAX = 28


class Payment(NamedTuple):
    """All that a signature base of one payment says."""

    network_id: bytes
    sender: bytes
    """Whose sequence number and fee: 32 bytes of a key; of a muxed account 8 bytes of its id after them."""
    fee: int
    sequence: int
    min_time: int
    max_time: int
    ledgers: tuple[int, int]
    """(0, 0) where none are asked for."""
    memo: tuple[str, str]
    """Kind and text, as in an intent."""
    source: bytes
    """The operation's own; b"" for none."""
    destination: bytes
    asset: tuple[bytes, ...]
    """Code, padded to 4 or 12 bytes, and issuer; () of the native asset."""
    amount: int


def check_payment(
    unsigned: bytes, intent: StellarPayment | StellarChannelPayment, binding: StellarBinding, sender: str
) -> None:
    """Raise Refusal("bad_request") unless the bytes say what intent and binding say, and nothing else."""
    by_channel = isinstance(intent, StellarChannelPayment)
    approved = Payment(
        network_id=bytes.fromhex(intent.network_id),
        sender=payload_of(sender),
        fee=binding.fee,
        sequence=binding.sequence,
        min_time=0,
        max_time=binding.max_time,
        ledgers=(binding.min_ledger, binding.max_ledger),
        memo=(intent.memo_type, intent.memo),
        source=payload_of(intent.source) if by_channel else b"",
        destination=payload_of(intent.destination),
        asset=_asset_of(intent.asset),
        amount=intent.amount,
    )
    if read_payment(unsigned) != approved:
        raise Refusal("bad_request", "the transaction built is not the one approved")


def read_payment(unsigned: bytes) -> Payment:
    """Return what a signature base says; raises Refusal("bad_request") when it is not one of a single payment."""
    reader = _Reader(unsigned)
    network_id = reader.take(32)
    reader.expect(2, "a transaction")
    sender = reader.account()
    fee, sequence = reader.number(), reader.number(_SIGNED_64)
    min_time, max_time, ledgers = _read_bounds(reader)
    memo = _read_memo(reader)
    reader.expect(1, "one operation")
    source = reader.account() if reader.flag() else b""
    reader.expect(1, "a payment")
    destination, asset, amount = reader.account(), _read_asset(reader), reader.number(_SIGNED_64)
    reader.expect(0, "the end")
    reader.finish()
    return Payment(
        network_id=network_id,
        sender=sender,
        fee=fee,
        sequence=sequence,
        min_time=min_time,
        max_time=max_time,
        ledgers=ledgers,
        memo=memo,
        source=source,
        destination=destination,
        asset=asset,
        amount=amount,
    )


class _Reader:
    """Takes XDR from the front; raises Refusal("bad_request") for whatever is not there or not as expected."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        end = self._at + size
        part = self._data[self._at : end]
        if len(part) != size:
            raise _other("its length")
        self._at = end
        return part

    def number(self, form: Struct = _UNSIGNED_32) -> int:
        try:
            (value,) = form.unpack_from(self._data, self._at)
        except error:
            raise _other("its length") from None
        self._at += form.size
        return int(value)

    def expect(self, value: int, what: str) -> None:
        if self.number() != value:
            raise _other(what)

    def flag(self) -> bool:
        value = self.number()
        if value > 1:
            raise _other("an option")
        return value == 1

    def key(self) -> bytes:
        self.expect(0, "an Ed25519 key")
        return self.take(32)

    def account(self) -> bytes:
        """Return a key, or of a muxed account (0x100) its key and then its id, which stands first."""
        kind = self.number()
        if kind == 0x100:
            name = self.take(8)
            return self.take(32) + name
        if kind:
            raise _other("an account")
        return self.take(32)

    def finish(self) -> None:
        if self._at != len(self._data):
            raise _other("its length")


def _read_bounds(reader: _Reader) -> tuple[int, int, tuple[int, int]]:
    """Return least and greatest time, and the ledgers: alone, or first among preconditions of which no other is set."""
    kind = reader.number()
    if kind == 1:
        return reader.number(_UNSIGNED_64), reader.number(_UNSIGNED_64), (0, 0)
    if kind != 2:
        raise _other("its bounds")
    reader.expect(1, "time bounds")
    times = reader.number(_UNSIGNED_64), reader.number(_UNSIGNED_64)
    reader.expect(1, "ledger bounds")
    ledgers = reader.number(), reader.number()
    # No least sequence number (4 bytes), age (8), gap (4), further signers (4). Bounds of nothing have a shorter spelling.
    if reader.take(20) != bytes(20) or ledgers == (0, 0):
        raise _other("its preconditions")
    return *times, ledgers


def _read_memo(reader: _Reader) -> tuple[str, str]:
    kind = reader.number()
    if kind >= len(_MEMO_KINDS):
        raise _other("a memo")
    return _MEMO_KINDS[kind], _read_memo_text(reader, _MEMO_KINDS[kind])


def _read_memo_text(reader: _Reader, kind: str) -> str:
    match kind:
        case "text":
            size = reader.number()
            if size > _MEMO_TEXT_MAX:
                raise _other("a memo")
            text, padding = reader.take(size), reader.take(-size % 4)
            if any(padding) or not text.isascii():
                raise _other("a memo")
            return text.decode("ascii")
        case "id":
            return str(reader.number(_UNSIGNED_64))
        case "hash":
            return reader.take(32).hex()
        case _:
            return ""


def _read_asset(reader: _Reader) -> tuple[bytes, ...]:
    kind = reader.number()
    if kind == 0:
        return ()
    if kind > 2:
        raise _other("an asset")
    code = reader.take(4 if kind == 1 else 12)
    return code, reader.key()


def _asset_of(text: str) -> tuple[bytes, ...]:
    if text == "native":
        return ()
    code, _, issuer = text.partition(":")
    return code.encode("ascii").ljust(4 if len(code) <= 4 else 12, b"\0"), payload_of(issuer)


def _other(what: str) -> Refusal:
    return Refusal("bad_request", f"the signature base is not one of a payment: {what} is amiss")
