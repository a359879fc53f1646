"""What a signing key must be, asked of the token itself: after it is made and when a session first meets it."""

from collections.abc import Mapping
from typing import Any

import coincurve
from pkcs11 import Attribute, KeyType, Mechanism

from signer.ed25519 import is_ed25519
from signer.refusal import KeyFault

EC_PARAMS: Mapping[str, bytes] = {
    "ed25519": bytes.fromhex("06032b6570"),  # OID 1.3.101.112, RFC 8410
    "secp256k1": bytes.fromhex("06052b8104000a"),  # OID 1.3.132.0.10, SEC 2
}
KEY_TYPE = {"ed25519": KeyType.EC_EDWARDS, "secp256k1": KeyType.EC}
GENERATION = {"ed25519": Mechanism.EC_EDWARDS_KEY_PAIR_GEN, "secp256k1": Mechanism.EC_KEY_PAIR_GEN}
SIGNING = {"ed25519": Mechanism.EDDSA, "secp256k1": Mechanism.ECDSA}
PUBLIC_SIZE = {"ed25519": 32, "secp256k1": 65}

# SoftHSM answers with the curve's name as a PrintableString, whatever form it was given. Source: PKCS#11 v3.0 s.2.3.3.
_CURVE_NAMES = {
    "ed25519": {EC_PARAMS["ed25519"], b"\x13\x0cedwards25519"},
    "secp256k1": {EC_PARAMS["secp256k1"]},
}

_SIGNS_ONLY: Mapping[Attribute, bool] = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.COPYABLE: False,
    Attribute.SIGN: True,
    Attribute.SIGN_RECOVER: False,
    Attribute.DERIVE: False,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: False,
}
PRIVATE_PROFILE: Mapping[Attribute, bool] = {
    **_SIGNS_ONLY,
    Attribute.TOKEN: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.DESTROYABLE: False,
}
"""What a signing key that lives in the token is asked to be."""
NEWBORN_PROFILE: Mapping[Attribute, bool] = {
    **_SIGNS_ONLY,
    Attribute.TOKEN: False,
    Attribute.EXTRACTABLE: True,
    Attribute.MODIFIABLE: False,
}
"""A key of the wrapped store in the moment between its birth and its wrapping."""
UNWRAPPED_PROFILE: Mapping[Attribute, bool] = {
    **_SIGNS_ONLY,
    Attribute.TOKEN: False,
    Attribute.EXTRACTABLE: False,
}
"""A key of the wrapped store while it signs. SoftHSM refuses to unwrap into what cannot be modified."""
BORN_INSIDE: Mapping[Attribute, bool] = {
    Attribute.LOCAL: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
}
"""What only the HSM itself can say of a key; an imported or unwrapped one fails it."""


def check_attributes(handle: Any, wanted: Mapping[Attribute, bool]) -> None:
    """Raise KeyFault at the first attribute that differs."""
    for attribute, value in wanted.items():
        if handle[attribute] is not value:
            raise KeyFault(f"a key has the wrong {attribute.name}")


def check_curve(private: Any, curve: str) -> None:
    """Raise KeyFault unless the private key is of this type and curve."""
    if private.key_type is not KEY_TYPE[curve]:
        raise KeyFault("a key has the wrong type")
    if bytes(private[Attribute.EC_PARAMS]) not in _CURVE_NAMES[curve]:
        raise KeyFault("a key is on the wrong curve")


def is_born_inside(handle: Any, generation: Mechanism) -> bool:
    """Tell whether the token says that it made the key itself, by this mechanism, and never let it out."""
    if any(handle[attribute] is not value for attribute, value in BORN_INSIDE.items()):
        return False
    return generation_of(handle) is generation


def generation_of(handle: Any) -> Mechanism | None:
    """Return the mechanism that made the key; None for one that was not made in the token."""
    try:
        mechanism: Mechanism = handle[Attribute.KEY_GEN_MECHANISM]
    except ValueError:
        # CK_UNAVAILABLE_INFORMATION is none of the enumeration's values. Source: PKCS#11 v2.40 s.4.7.2.
        return None
    return mechanism


def public_bytes(public: Any, curve: str) -> bytes:
    """Return the point inside EC_POINT, which is a DER OCTET STRING of less than 128 bytes for both curves."""
    encoded = bytes(public[Attribute.EC_POINT])
    size = PUBLIC_SIZE[curve]
    if len(encoded) != size + 2 or encoded[:2] != bytes([0x04, size]):
        raise KeyFault("a public key has an unknown encoding")
    return encoded[2:]


def check_signature(curve: str, public_key: bytes, message: bytes, signature: bytes) -> None:
    """Raise KeyFault unless the signature (R‖S, or r‖s with any s) over these 32 bytes is by the key."""
    try:
        if curve == "ed25519":
            if not is_ed25519(public_key, signature, message):
                raise KeyFault("a signature is not by the expected key")
            return
        # An ECDSA signature with a high s verifies in no coincurve call; recovery takes both.
        found = [_recover(signature, v, message) for v in (0, 1)]
    except ValueError as error:
        raise KeyFault("a signature is not by the expected key") from error
    if public_key not in found:
        raise KeyFault("a signature is not by the expected key")


def _recover(signature: bytes, v: int, message: bytes) -> bytes:
    recovered = coincurve.PublicKey.from_signature_and_message(signature + bytes([v]), message, hasher=None)
    return bytes(recovered.format(False))
