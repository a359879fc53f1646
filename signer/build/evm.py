"""The EIP-1559 transaction of an EVM intent: encoded here, then decoded by the rlp library and held against
the intent.

Type 2 only: no access list, no blobs, no authorizations, no contract creation.

Source: EIP-1559, EIP-2718, yellow paper appendix B (RLP).
"""

from functools import lru_cache

import coincurve
import rlp
from rlp.exceptions import DecodingError

from signer.build.address import keccak256
from signer.protocol.intent import (
    EvmCall,
    EvmCancel,
    EvmErc20Approve,
    EvmErc20Sweep,
    EvmErc20Transfer,
    EvmFill,
    EvmIntent,
)
from signer.protocol.messages import EvmBinding
from signer.refusal import HsmFault, Refusal

TYPE = b"\x02"
ERC20_TRANSFER = bytes.fromhex("a9059cbb")
"""Selector of transfer(address,uint256)."""
ERC20_APPROVE = bytes.fromhex("095ea7b3")
"""Selector of approve(address,uint256)."""
NONCE_MAX = 2**64 - 2
"""EIP-2681."""
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141

Item = bytes | list[bytes]


def check_binding(intent: EvmIntent, binding: EvmBinding) -> None:
    """Raise Refusal("bad_binding") unless the binding only narrows the intent."""
    within = (
        0 <= binding.nonce <= NONCE_MAX
        and 1 <= binding.max_fee_per_gas <= intent.max_fee_per_gas
        and 0 <= binding.max_priority_fee_per_gas <= intent.max_priority_fee_per_gas
        and binding.max_priority_fee_per_gas <= binding.max_fee_per_gas
    )
    if not within:
        raise Refusal("bad_binding", "nonce or fee is outside what the intent allows")


def build_unsigned(intent: EvmIntent, binding: EvmBinding, effect: EvmCall | EvmCancel) -> bytes:
    """Return the bytes that are hashed with keccak and signed.

    `effect` is the intent itself, or the one that it replaces, as the signer's record holds it.
    """
    unsigned = TYPE + _encode(_fields(intent, binding, effect))
    _check_fields(unsigned, intent, binding, effect)
    return unsigned


@lru_cache(maxsize=256)
def message_of(unsigned: bytes) -> bytes:
    """Return the 32 bytes that the key signs. Remembered, since it is asked for before and after the HSM."""
    return keccak256(unsigned)


def finish(unsigned: bytes, signature: bytes, public_key: bytes) -> tuple[bytes, str]:
    """Return the raw transaction and its hash (hex). Raises HsmFault when the signature is not by `public_key` (65 bytes)."""
    r, s, parity = recoverable(signature, message_of(unsigned), public_key)
    tail: list[Item] = [_integer(parity), _integer(r), _integer(s)]
    # The nine fields stay the bytes that were read back when they were built; three more follow in a longer list.
    body = _body_of(unsigned) + b"".join(map(_encode, tail))
    tx = TYPE + _length(len(body), 0xC0) + body
    fields = _decode(tx)
    if len(fields) != 12 or fields[9:] != tail:
        raise Refusal("bad_request", "the signed transaction is not the one approved")
    return tx, keccak256(tx).hex()


def recoverable(signature: bytes, message: bytes, public_key: bytes) -> tuple[int, int, int]:
    """Return r, s and the parity of a signature, s normalised to the lower half (EIP-2); raises HsmFault."""
    r = signature[:32]
    s = int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or not 0 < s < CURVE_ORDER:
        raise HsmFault("the signature is out of range")
    if s > CURVE_ORDER // 2:
        s = CURVE_ORDER - s
    parity = _recover_parity(r + s.to_bytes(32, "big"), message, public_key)
    return int.from_bytes(r, "big"), s, parity


def _fields(intent: EvmIntent, binding: EvmBinding, effect: EvmCall | EvmCancel) -> list[Item]:
    to, value, data = _call_of(effect)
    return [
        _integer(intent.chain_id),
        _integer(binding.nonce),
        _integer(binding.max_priority_fee_per_gas),
        _integer(binding.max_fee_per_gas),
        _integer(intent.gas_limit),
        bytes.fromhex(to[2:]),
        _integer(value),
        data,
        [],
    ]


def _call_of(effect: EvmCall | EvmCancel) -> tuple[str, int, bytes]:
    """Return to, value and data."""
    match effect:
        case EvmCancel() | EvmFill():
            return effect.source, 0, b""
        case EvmErc20Transfer() | EvmErc20Sweep():
            return effect.token, 0, ERC20_TRANSFER + _words(effect.destination, effect.amount)
        case EvmErc20Approve():
            return effect.token, 0, ERC20_APPROVE + _words(effect.spender, effect.amount)
        case _:
            return effect.destination, effect.amount, b""


def _words(address: str, amount: int) -> bytes:
    return bytes(12) + bytes.fromhex(address[2:]) + amount.to_bytes(32, "big")


def _recover_parity(compact: bytes, message: bytes, public_key: bytes) -> int:
    for parity in (0, 1):
        recoverable = compact + bytes([parity])
        try:
            found = coincurve.PublicKey.from_signature_and_message(recoverable, message, hasher=None)
        except ValueError:
            continue
        if found.format(compressed=False) == public_key:
            return parity
    raise HsmFault("the signature is not by the expected key")


def _integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _encode(item: Item | list[Item]) -> bytes:
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _length(len(item), 0x80) + item
    body = b"".join(_encode(part) for part in item)
    return _length(len(body), 0xC0) + body


def _length(size: int, offset: int) -> bytes:
    if size < 56:
        return bytes([offset + size])
    length = _integer(size)
    return bytes([offset + 55 + len(length)]) + length


def _body_of(unsigned: bytes) -> bytes:
    """Return the encoded fields without the list's own prefix."""
    size = unsigned[1]
    return unsigned[2 if size < 0xF8 else size - 0xF5 :]


def _decode(tx: bytes) -> list[Item]:
    """Decode with the library; raises Refusal("bad_request")."""
    try:
        fields: list[Item] = rlp.decode(tx[1:], strict=True)
    except DecodingError as error:
        raise Refusal("bad_request", "the transaction cannot be read back") from error
    return fields


def _check_fields(
    unsigned: bytes, intent: EvmIntent, binding: EvmBinding, effect: EvmCall | EvmCancel
) -> None:
    """Decode what was built and compare every field with the intent; raises Refusal("bad_request") on any
    difference.
    """
    fields = _decode(unsigned)
    if unsigned[:1] != TYPE or len(fields) != 9:
        raise Refusal("bad_request", "the transaction built is not of type 2")
    *plain, access = fields
    parts = [part for part in plain if isinstance(part, bytes)]
    if len(parts) != 8 or len(access) != 0 or isinstance(access, bytes):
        raise Refusal("bad_request", "the transaction built has a list where none belongs")
    numbers = [int.from_bytes(part, "big") for part in parts[:5]]
    frame = numbers == [
        intent.chain_id,
        binding.nonce,
        binding.max_priority_fee_per_gas,
        binding.max_fee_per_gas,
        intent.gas_limit,
    ]
    to, value, data = parts[5], int.from_bytes(parts[6], "big"), parts[7]
    if not (frame and len(to) == 20 and _same_effect(to.hex(), value, data, effect)):
        raise Refusal("bad_request", "the transaction built is not the one approved")


def _same_effect(to: str, value: int, data: bytes, effect: EvmCall | EvmCancel) -> bool:
    match effect:
        case EvmCancel() | EvmFill():
            return (to, value, data) == (_lower(effect.source), 0, b"")
        case EvmErc20Transfer() | EvmErc20Sweep():
            called = (ERC20_TRANSFER, _lower(effect.destination), effect.amount)
        case EvmErc20Approve():
            called = (ERC20_APPROVE, _lower(effect.spender), effect.amount)
        case _:
            return (to, value, data) == (_lower(effect.destination), effect.amount, b"")
    return to == _lower(effect.token) and value == 0 and _read_call(data) == called


def _read_call(data: bytes) -> tuple[bytes, str, int] | None:
    """Return selector, address and number of a call of two words; None of any other data."""
    if len(data) != 68 or any(data[4:16]):
        return None
    return data[:4], data[16:36].hex(), int.from_bytes(data[36:], "big")


def _lower(address: str) -> str:
    return address[2:].lower()
