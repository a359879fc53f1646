"""Keys by the hundred thousand: born in the token, kept outside it as wrapped bytes, inside only while they sign.

For secp256k1 only. SoftHSM 2.6.1 cannot wrap an Ed25519 key, and Stellar needs no key per deposit (it has muxed accounts).
"""

import hashlib
from typing import Any

import pkcs11
from pkcs11 import Attribute

from signer.hsm.model import WrappedKey
from signer.hsm.profile import (
    GENERATION,
    NEWBORN_PROFILE,
    SIGNING,
    UNWRAPPED_PROFILE,
    check_attributes,
    check_curve,
    check_signature,
    generation_of,
    public_bytes,
)
from signer.hsm.sessions import SessionPool, Slot
from signer.hsm.wrapping import (
    WRAPPING,
    find_wrapping_key,
    generate_pair,
    generate_wrapping_key,
    unwrap,
)
from signer.refusal import HsmFault, KeyFault

CURVE = "secp256k1"
WRAPPED_SIZE = 72
UNWRAPPED_MAX = 64
"""Session objects that one session keeps for the keys it used last."""
_PROBE = hashlib.sha256(b"custody: does this key pair belong together?").digest()


class WrappedKeys:
    """The wrapped store of one token. Holds no keys: the caller keeps them. Safe for concurrent use."""

    def __init__(self, pool: SessionPool, ceremony: frozenset[bytes]) -> None:
        """`ceremony` are the fingerprints of wrapping keys that need not be born inside."""
        self._pool = pool
        self._ceremony = ceremony

    def generate(self) -> WrappedKey:
        """Make a key, and at first use the wrapping key. Raises HsmFault, also when either is not as asked."""
        with self._pool.slot() as slot:
            with self._pool.objects:
                wrapping, mark = self._wrapping_key(slot, create=True)
                public, private = generate_pair(slot.session)
                try:
                    _check_newborn(private)
                    blob = bytes(wrapping.wrap_key(private, mechanism=WRAPPING))
                    made = WrappedKey(public_key=public_bytes(public, CURVE), blob=blob, wrapping_key=mark)
                finally:
                    private.destroy()
                    public.destroy()
            # What comes back out of the bytes must be the key whose public half was read.
            check_signature(CURVE, made.public_key, _PROBE, self._sign_in(slot, made, _PROBE))
        return made

    def sign(self, key: WrappedKey, message: bytes) -> bytes:
        """Return r‖s over a 32-byte hash, verified. Raises KeyFault when the wrapped bytes were changed, HsmFault."""
        if len(message) != 32:
            raise HsmFault("message is not 32 bytes")
        with self._pool.slot() as slot:
            signature = self._sign_in(slot, key, message)
        check_signature(CURVE, key.public_key, message, signature)
        return signature

    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None:
        """Raise KeyFault unless the token holds the one key that wrapped all of these."""
        with self._pool.slot() as slot, self._pool.objects:
            _, mark = self._wrapping_key(slot, create=False)
        if fingerprints != {mark}:
            raise KeyFault("keys were wrapped by another wrapping key than the token's")

    def _sign_in(self, slot: Slot, key: WrappedKey, message: bytes) -> bytes:
        with self._pool.objects:
            private = self._unwrapped(slot, key)
        return bytes(private.sign(message, mechanism=SIGNING[CURVE]))

    def _unwrapped(self, slot: Slot, key: WrappedKey) -> Any:
        """Return the session object of the key; the one used longest ago makes room for it."""
        handle = slot.unwrapped.pop(key.blob, None)
        if handle is None:
            if len(key.blob) != WRAPPED_SIZE:
                raise KeyFault("a wrapped key has the wrong length")
            wrapping, mark = self._wrapping_key(slot, create=False)
            if mark != key.wrapping_key:
                raise KeyFault("a key was wrapped by another wrapping key than the token's")
            while len(slot.unwrapped) >= UNWRAPPED_MAX:
                slot.unwrapped.pop(next(iter(slot.unwrapped))).destroy()
            handle = _open(wrapping, key.blob)
        slot.unwrapped[key.blob] = handle
        return handle

    def _wrapping_key(self, slot: Slot, *, create: bool) -> tuple[Any, bytes]:
        if slot.wrapping is None:
            found = find_wrapping_key(slot.session, self._ceremony)
            if found is None and create:
                generate_wrapping_key(slot.session)
                found = find_wrapping_key(slot.session, self._ceremony)
            if found is None:
                raise KeyFault("the token holds no wrapping key")
            slot.wrapping = found
        return slot.wrapping


def _open(wrapping: Any, blob: bytes) -> Any:
    try:
        handle = unwrap(wrapping, blob)
    except (pkcs11.GeneralError, pkcs11.FunctionFailed, pkcs11.WrappedKeyInvalid) as error:
        # SoftHSM has no code of its own for bytes that fail RFC 5649's integrity check.
        raise KeyFault("a wrapped key does not open: its bytes were changed") from error
    check_attributes(handle, UNWRAPPED_PROFILE)
    check_curve(handle, CURVE)
    return handle


def _check_newborn(private: Any) -> None:
    """Raise KeyFault unless the token has just made this key itself."""
    check_attributes(private, NEWBORN_PROFILE)
    check_attributes(private, {Attribute.LOCAL: True, Attribute.ALWAYS_SENSITIVE: True})
    check_curve(private, CURVE)
    if generation_of(private) is not GENERATION[CURVE]:
        raise KeyFault("a key was made by the wrong mechanism")
