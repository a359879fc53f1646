"""The bytes of a Stellar transaction around its one operation, packed here: field after field, as the XDR lists them.

What is packed here is read back by `stellar_reading` or the SDK, which share nothing with it. Source: Stellar-transaction.x.
"""

import struct

from signer.build.stellar_operations import raw_asset
from signer.protocol.fields import payload_of
from signer.protocol.intent import StellarChannelPayment, StellarPayment
from signer.protocol.messages import StellarBinding

ENVELOPE_TYPE_TX = 2
_KEY_TYPE_ED25519, _KEY_TYPE_MUXED = 0, 0x100
_PRECOND_TIME, _PRECOND_V2 = 1, 2
_MEMO_NONE, _MEMO_TEXT, _MEMO_ID, _MEMO_HASH = range(4)
_OPERATION_PAYMENT = 1
_ASSET_NATIVE, _ASSET_4, _ASSET_12 = range(3)
_NO, _YES = bytes(4), b"\0\0\0\1"
"""Whether an optional field follows; a list of none or one."""


def pack_signature_base(network_id: bytes, transaction: bytes) -> bytes:
    """Return what is hashed and signed."""
    return network_id + struct.pack(">I", ENVELOPE_TYPE_TX) + transaction


def pack_transaction(
    *,
    sender: str,
    binding: StellarBinding,
    memo: tuple[str, str],
    source: str,
    body: bytes,
    resources: bytes,
) -> bytes:
    """Return the Transaction. `memo` is type and text; `source` is the operation's own, "" for none.

    `body` is the OperationBody, `resources` the SorobanTransactionData, b"" where no contract is called.
    """
    own = _YES + pack_account(source) if source else _NO
    return b"".join(
        (
            pack_account(sender),
            struct.pack(">Iq", binding.fee, binding.sequence),
            _pack_bounds(binding),
            _pack_memo(*memo),
            _YES,
            own,
            body,
            _YES + resources if resources else _NO,
        )
    )


def pack_payment(intent: StellarPayment | StellarChannelPayment) -> bytes:
    """Return the OperationBody of a payment."""
    kind = struct.pack(">I", _OPERATION_PAYMENT)
    return (
        kind + pack_account(intent.destination) + _pack_asset(intent.asset) + struct.pack(">q", intent.amount)
    )


def pack_account(address: str) -> bytes:
    """Return the MuxedAccount of a G or an M address."""
    raw = payload_of(address)
    if len(raw) == 40:
        return struct.pack(">I", _KEY_TYPE_MUXED) + raw[32:] + raw[:32]
    return struct.pack(">I", _KEY_TYPE_ED25519) + raw


def _pack_asset(text: str) -> bytes:
    raw = raw_asset(text)
    if not raw:
        return struct.pack(">I", _ASSET_NATIVE)
    code, issuer = raw
    kind = _ASSET_4 if len(code) == 4 else _ASSET_12
    return struct.pack(">I", kind) + code + struct.pack(">I", _KEY_TYPE_ED25519) + issuer


def _pack_bounds(binding: StellarBinding) -> bytes:
    """Time bounds always; ledger bounds make it the long form, whose other preconditions are none."""
    if not (binding.min_ledger or binding.max_ledger):
        return struct.pack(">IQQ", _PRECOND_TIME, 0, binding.max_time)
    times = struct.pack(">IIQQ", _PRECOND_V2, 1, 0, binding.max_time)
    no_sequence, no_age, no_gap, no_signers = _NO, bytes(8), bytes(4), _NO
    ledgers = struct.pack(">III", 1, binding.min_ledger, binding.max_ledger)
    return times + ledgers + no_sequence + no_age + no_gap + no_signers


def _pack_memo(kind: str, text: str) -> bytes:
    match kind:
        case "text":
            raw = text.encode("ascii")
            return struct.pack(">II", _MEMO_TEXT, len(raw)) + raw + bytes(-len(raw) % 4)
        case "id":
            return struct.pack(">IQ", _MEMO_ID, int(text))
        case "hash":
            return struct.pack(">I", _MEMO_HASH) + bytes.fromhex(text)
        case _:
            return struct.pack(">I", _MEMO_NONE)
