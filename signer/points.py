"""Which bytes are a usable public key of Ed25519 (canonical, on the curve, not of small order) or of P-256.

Verifiers differ in what they accept here, so keys are judged once, where they enter. Source: RFC 8032 s.5.1.3, FIPS 186-5.
"""

from functools import lru_cache

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
_ORDER_8_A = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
_ORDER_8_B = bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
_SMALL_ORDER_Y = frozenset(
    {0, 1, P - 1, int.from_bytes(_ORDER_8_A, "little"), int.from_bytes(_ORDER_8_B, "little")}
)
"""The y coordinates of the eight points whose order divides 8."""
_P256_P = 2**256 - 2**224 + 2**192 + 2**96 - 1
_P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@lru_cache(maxsize=4096)
def is_public_key(raw: bytes) -> bool:
    """Tell whether `raw` encodes a point of Ed25519 that somebody can hold the private key of."""
    if len(raw) != 32:
        return False
    y = int.from_bytes(raw, "little") & ((1 << 255) - 1)
    if y >= P or y in _SMALL_ORDER_Y:
        return False
    # x² is the quotient of these two. It is a square when their product is one, since that is the quotient times a square.
    numerator, denominator = y * y - 1, D * y * y + 1
    return pow(numerator * denominator % P, (P - 1) // 2, P) == 1


def is_p256_public_key(raw: bytes) -> bool:
    """Tell whether `raw` is an uncompressed point of P-256, which identity has no encoding for. Source: SEC 1 s.2.3.4."""
    if len(raw) != 65 or raw[0] != 4:
        return False
    x, y = int.from_bytes(raw[1:33], "big"), int.from_bytes(raw[33:], "big")
    return x < _P256_P and y < _P256_P and (y * y - (x * x * x - 3 * x + _P256_B)) % _P256_P == 0
