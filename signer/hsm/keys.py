"""Signing keys in the token: born there, never exportable, found by CKA_ID, used for one mechanism each."""

import hashlib
from typing import Any

from pkcs11 import Attribute, MechanismFlag, ObjectClass

from signer.hsm.model import TokenKey, WrappedKey
from signer.hsm.profile import (
    EC_PARAMS,
    GENERATION,
    KEY_TYPE,
    PRIVATE_PROFILE,
    SIGNING,
    check_attributes,
    check_curve,
    check_signature,
    generation_of,
    is_born_inside,
    public_bytes,
)
from signer.hsm.sessions import SessionPool, Slot
from signer.hsm.wrapped import WrappedKeys
from signer.refusal import HsmFault, KeyFault

_PROBE = hashlib.sha256(b"custody: is this the key that it is said to be?").digest()


class KeyStore:
    """The signing keys of one token. Safe for concurrent use."""

    def __init__(self, pool: SessionPool, ceremony: frozenset[bytes] = frozenset()) -> None:
        """`ceremony`: the keys that need not be born inside, by public key or, for a wrapping key, by fingerprint."""
        self._pool = pool
        self._ceremony = ceremony
        self._wrapped = WrappedKeys(pool, ceremony)

    def generate(self, key_id: bytes, label: str, curve: str) -> TokenKey:
        """Generate the key pair, or find it when a lost call generated it before.

        Raises HsmFault, also when the key is not as asked or does not sign for its public half.
        """
        search = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id}
        with self._pool.slot() as slot, self._pool.objects:
            if not list(slot.session.get_objects(search)):
                self._generate_pair(slot, key_id, label, curve)
        found = self.inspect(key_id, curve)
        if not found.born_inside:
            raise KeyFault("another hand has put a key in the place of the one asked for")
        return found

    def inspect(self, key_id: bytes, curve: str) -> TokenKey:
        """Return what the token says of a key in it. Raises HsmFault, also when the key may not serve here."""
        with self._pool.slot() as slot:
            with self._pool.objects:
                private = self._private_key(slot, key_id, curve)
                public_key = public_bytes(_only(slot, ObjectClass.PUBLIC_KEY, key_id), curve)
            check_signature(curve, public_key, _PROBE, bytes(private.sign(_PROBE, mechanism=SIGNING[curve])))
            mechanism = generation_of(private)
            return TokenKey(
                public_key=public_key,
                born_inside=is_born_inside(private, GENERATION[curve]),
                mechanism="" if mechanism is None else mechanism.name,
            )

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        """Return the 64-byte signature over a 32-byte hash: R‖S for ed25519, r‖s with any s for secp256k1.

        Raises HsmFault. SoftHSM would sign any length with ECDSA, so the length is checked here.
        """
        if len(message) != 32:
            raise HsmFault("message is not 32 bytes")
        with self._pool.slot() as slot:
            # A handle known to this session needs no search, so the signature waits behind nobody who makes keys.
            private = slot.handles.get(key_id)
            if private is None:
                with self._pool.objects:
                    private = self._private_key(slot, key_id, curve)
            signature = self._pool.calls.sign(slot.session.handle, private.handle, SIGNING[curve], message)
        if len(signature) != 64:
            raise HsmFault("signature is not 64 bytes")
        return signature

    def generate_wrapped(self) -> WrappedKey:
        """Make a secp256k1 key that lives outside the token under its wrapping key. Raises HsmFault."""
        return self._wrapped.generate()

    def sign_wrapped(self, key: WrappedKey, message: bytes) -> bytes:
        """Return r‖s with any s over a 32-byte hash; raises KeyFault when the key's bytes were changed, HsmFault."""
        return self._wrapped.sign(key, message)

    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None:
        """Raise KeyFault unless the token holds the wrapping key of all keys that are known by these fingerprints."""
        self._wrapped.check_wrapping_key(fingerprints)

    def _private_key(self, slot: Slot, key_id: bytes, curve: str) -> Any:
        """Return the handle of the key, its profile checked when it is first met in this session."""
        handle = slot.handles.get(key_id)
        if handle is None:
            handle = _only(slot, ObjectClass.PRIVATE_KEY, key_id)
            check_attributes(handle, PRIVATE_PROFILE)
            check_curve(handle, curve)
            if not is_born_inside(handle, GENERATION[curve]):
                public_key = public_bytes(_only(slot, ObjectClass.PUBLIC_KEY, key_id), curve)
                if public_key not in self._ceremony:
                    raise KeyFault(
                        "a key was not born inside, and the configuration names no such ceremony key"
                    )
            slot.handles[key_id] = handle
        return handle

    def _generate_pair(self, slot: Slot, key_id: bytes, label: str, curve: str) -> None:
        parameters = slot.session.create_domain_parameters(
            KEY_TYPE[curve], {Attribute.EC_PARAMS: EC_PARAMS[curve]}, local=True
        )
        parameters.generate_keypair(
            id=key_id,
            label=label,
            store=True,
            mechanism=GENERATION[curve],
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            private_template=dict(PRIVATE_PROFILE),
            public_template={Attribute.MODIFIABLE: False},
        )


def _only(slot: Slot, kind: ObjectClass, key_id: bytes) -> Any:
    """Return the one object with this id; with two, nobody could say which of them signs."""
    found = list(slot.session.get_objects({Attribute.CLASS: kind, Attribute.ID: key_id}))
    if not found:
        raise KeyFault("the key is not in the token")
    if len(found) > 1:
        raise KeyFault("the token holds more than one key with this id")
    return found[0]
