"""Signing keys: born in the HSM, never exportable, found by CKA_ID, used for one mechanism each."""

from collections.abc import Mapping
from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.exceptions import NoSuchKey

from signer.hsm.sessions import SessionPool, Slot
from signer.refusal import HsmFault

EC_PARAMS: Mapping[str, bytes] = {
    "ed25519": bytes.fromhex("06032b6570"),  # OID 1.3.101.112, RFC 8410
    "secp256k1": bytes.fromhex("06052b8104000a"),  # OID 1.3.132.0.10, SEC 2
}
_KEY_TYPE = {"ed25519": KeyType.EC_EDWARDS, "secp256k1": KeyType.EC}
_GENERATION = {"ed25519": Mechanism.EC_EDWARDS_KEY_PAIR_GEN, "secp256k1": Mechanism.EC_KEY_PAIR_GEN}
_SIGNING = {"ed25519": Mechanism.EDDSA, "secp256k1": Mechanism.ECDSA}
_PUBLIC_SIZE = {"ed25519": 32, "secp256k1": 65}

PRIVATE_PROFILE: Mapping[Attribute, bool] = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.COPYABLE: False,
    Attribute.DESTROYABLE: False,
    Attribute.SIGN: True,
    Attribute.SIGN_RECOVER: False,
    Attribute.DERIVE: False,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: False,
}
"""What a signing key is asked to be."""
BORN_INSIDE: Mapping[Attribute, bool] = {
    Attribute.LOCAL: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
"""What only the HSM itself can say of a key; an imported or unwrapped one fails it."""


class KeyStore:
    """The signing keys of one token. Safe for concurrent use."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    def generate(self, key_id: bytes, label: str, curve: str) -> bytes:
        """Generate the key pair, or find it when a lost call generated it before; return its public key.

        32 bytes for ed25519, 65 bytes for secp256k1. Raises HsmFault, also when the key is not as asked.
        """
        search = {Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: key_id}
        with self._pool.slot() as slot, self._pool.objects:
            if not list(slot.session.get_objects(search)):
                self._generate_pair(slot, key_id, label, curve)
            _private_key(slot, key_id, curve)
            return _public_bytes(slot.session.get_key(ObjectClass.PUBLIC_KEY, id=key_id), curve)

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:
        """Return the 64-byte signature over a 32-byte hash: R‖S for ed25519, r‖s with any s for secp256k1.

        Raises HsmFault. SoftHSM would sign any length with ECDSA, so the length is checked here.
        """
        if len(message) != 32:
            raise HsmFault("message is not 32 bytes")
        with self._pool.slot() as slot:
            with self._pool.objects:
                private = _private_key(slot, key_id, curve)
            signature = private.sign(message, mechanism=_SIGNING[curve])
        if len(signature) != 64:
            raise HsmFault("signature is not 64 bytes")
        return bytes(signature)

    def _generate_pair(self, slot: Slot, key_id: bytes, label: str, curve: str) -> None:
        parameters = slot.session.create_domain_parameters(
            _KEY_TYPE[curve], {Attribute.EC_PARAMS: EC_PARAMS[curve]}, local=True
        )
        parameters.generate_keypair(
            id=key_id,
            label=label,
            store=True,
            mechanism=_GENERATION[curve],
            capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
            private_template=dict(PRIVATE_PROFILE),
            public_template={Attribute.MODIFIABLE: False},
        )


def _private_key(slot: Slot, key_id: bytes, curve: str) -> Any:
    """Return the handle of the key, its profile checked when it is first met in this session."""
    handle = slot.handles.get(key_id)
    if handle is None:
        try:
            handle = slot.session.get_key(ObjectClass.PRIVATE_KEY, id=key_id)
        except NoSuchKey as error:
            raise HsmFault("the key is not in the token") from error
        _check_profile(handle, curve)
        slot.handles[key_id] = handle
    return handle


def _check_profile(private: Any, curve: str) -> None:
    """Raise HsmFault unless the key is of this curve, was born inside and can never leave."""
    for attribute, wanted in {**PRIVATE_PROFILE, **BORN_INSIDE}.items():
        if private[attribute] is not wanted:
            raise HsmFault(f"a key has the wrong {attribute.name}")
    if private.key_type is not _KEY_TYPE[curve]:
        raise HsmFault("a key has the wrong type")


def _public_bytes(public: Any, curve: str) -> bytes:
    """Return the point inside EC_POINT, which is a DER OCTET STRING of less than 128 bytes for both curves."""
    encoded = bytes(public[Attribute.EC_POINT])
    size = _PUBLIC_SIZE[curve]
    if len(encoded) != size + 2 or encoded[:2] != bytes([0x04, size]):
        raise HsmFault("a public key has an unknown encoding")
    return encoded[2:]
