"""The EIP-1559 transaction of an EVM intent: encoded here, then decoded by the rlp library and held against
the intent.

Source: EIP-1559, EIP-2718, yellow paper appendix B (RLP).
"""

import coincurve
import rlp
from rlp.exceptions import DecodingError

from signer.build.address import keccak256
from signer.protocol.intent import EvmErc20Transfer, EvmIntent
from signer.protocol.messages import EvmBinding
from signer.refusal import HsmFault, Refusal

TYPE = b"\x02"
ERC20_TRANSFER = bytes.fromhex("a9059cbb")
"""Selector of transfer(address,uint256)."""
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


def build_unsigned(intent: EvmIntent, binding: EvmBinding) -> bytes:
    """Return the bytes that are hashed with keccak and signed."""
    unsigned = TYPE + _encode(_fields(intent, binding))
    _check_fields(unsigned, intent, binding, signed=False)
    return unsigned


def message_of(unsigned: bytes) -> bytes:
    """Return the 32 bytes that the key signs."""
    return keccak256(unsigned)


def finish(
    unsigned: bytes, signature: bytes, public_key: bytes, intent: EvmIntent, binding: EvmBinding
) -> tuple[bytes, str]:
    """Return the raw transaction and its hash (hex), with the signature normalised to low s (EIP-2).

    Raises HsmFault when the signature is not by `public_key` (65 bytes).
    """
    r = signature[:32]
    s = int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or not 0 < s < CURVE_ORDER:
        raise HsmFault("the signature is out of range")
    if s > CURVE_ORDER // 2:
        s = CURVE_ORDER - s
    parity = _recover_parity(r + s.to_bytes(32, "big"), message_of(unsigned), public_key)
    tail = [_integer(parity), _integer(int.from_bytes(r, "big")), _integer(s)]
    tx = TYPE + _encode([*_fields(intent, binding), *tail])
    _check_fields(tx, intent, binding, signed=True)
    return tx, keccak256(tx).hex()


def _fields(intent: EvmIntent, binding: EvmBinding) -> list[Item]:
    if isinstance(intent, EvmErc20Transfer):
        to, value = intent.token, 0
        receiver = bytes(12) + bytes.fromhex(intent.destination[2:])
        data = ERC20_TRANSFER + receiver + intent.amount.to_bytes(32, "big")
    else:
        to, value, data = intent.destination, intent.amount, b""
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


def _check_fields(tx: bytes, intent: EvmIntent, binding: EvmBinding, *, signed: bool) -> None:
    """Decode what was built and compare every field with the intent; raises Refusal("bad_request") on any
    difference.
    """
    try:
        fields = rlp.decode(tx[1:], strict=True)
    except DecodingError as error:
        raise Refusal("bad_request", "the transaction cannot be read back") from error
    numbers = [int.from_bytes(part, "big") for part in fields[:5]]
    to, value, data, access = fields[5], int.from_bytes(fields[6], "big"), fields[7], fields[8]
    if isinstance(intent, EvmErc20Transfer):
        effect = (
            to.hex() == intent.token[2:].lower()
            and value == 0
            and len(data) == 68
            and data[:4] == ERC20_TRANSFER
            and int.from_bytes(data[4:36], "big") == int(intent.destination, 16)
            and int.from_bytes(data[36:], "big") == intent.amount
        )
    else:
        effect = to.hex() == intent.destination[2:].lower() and value == intent.amount and data == b""
    frame = numbers == [
        intent.chain_id,
        binding.nonce,
        binding.max_priority_fee_per_gas,
        binding.max_fee_per_gas,
        intent.gas_limit,
    ]
    whole = tx[:1] == TYPE and len(fields) == (12 if signed else 9) and list(access) == []
    if not (effect and frame and whole):
        raise Refusal("bad_request", "the transaction built is not the one approved")
