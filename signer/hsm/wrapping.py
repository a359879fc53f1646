"""The wrapping key: the one AES key in the token under which deposit keys leave it, and come back only to sign.

It can be born in the token at first use, or come from a ceremony, which alone can be restored on a second token; the
configuration then names it by its fingerprint. Either way its CKA_UNWRAP_TEMPLATE makes the token refuse to unwrap anything
into what could be read or wrapped again, even for somebody with the PIN. Source: PKCS#11 v2.40 s.4.9.2.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass
from pkcs11.constants import DEFAULT
from pkcs11.exceptions import TemplateInconsistent

from signer.hsm.profile import (
    EC_PARAMS,
    GENERATION,
    KEY_TYPE,
    NEWBORN_PROFILE,
    UNWRAPPED_PROFILE,
    check_attributes,
    is_born_inside,
)
from signer.refusal import KeyFault

WRAPPING_LABEL = "custody-wrapping-key"
WRAPPING_ID = b"custody-kek-v1\x00\x00"
WRAPPING = Mechanism.AES_KEY_WRAP_PAD
FINGERPRINT_TAG = b"custody-wrapping-key-v1\x00"
FINGERPRINT_VALUE = b"custody wrapping key fingerprint"
"""What the key wraps to be told from others: 32 bytes that are no secret."""

WRAPPING_PROFILE: Mapping[Attribute, bool] = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.COPYABLE: False,
    Attribute.DESTROYABLE: False,
    Attribute.ENCRYPT: False,
    Attribute.DECRYPT: False,
    Attribute.SIGN: False,
    Attribute.VERIFY: False,
    Attribute.DERIVE: False,
    Attribute.WRAP: True,
    Attribute.UNWRAP: True,
}
"""A key that could also decrypt would give the wrapped keys away in clear."""
SEARCH = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: WRAPPING_ID}
ONLY_TO_SIGN: Mapping[Attribute, bool] = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}
"""The template that every key must meet that is unwrapped."""


def generate_wrapping_key(session: Any) -> Any:
    """Let the token make the key; it can never be restored elsewhere."""
    return session.generate_key(
        KeyType.AES,
        256,
        id=WRAPPING_ID,
        label=WRAPPING_LABEL,
        store=True,
        mechanism=Mechanism.AES_KEY_GEN,
        capabilities=MechanismFlag.WRAP | MechanismFlag.UNWRAP,
        template={**WRAPPING_PROFILE, Attribute.UNWRAP_TEMPLATE: ONLY_TO_SIGN},
    )


def import_wrapping_key(session: Any, value: bytes) -> Any:
    """Put a ceremony's key into the token. LOCAL and NEVER_EXTRACTABLE stay false, so it shows where it came from."""
    return session.create_object(
        {
            **SEARCH,
            Attribute.LABEL: WRAPPING_LABEL,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.VALUE: value,
            Attribute.TOKEN: True,
            **WRAPPING_PROFILE,
            Attribute.UNWRAP_TEMPLATE: ONLY_TO_SIGN,
        }
    )


def find_wrapping_key(session: Any, ceremony: frozenset[bytes]) -> tuple[Any, bytes] | None:
    """Return the key and its fingerprint, or None when there is none yet.

    Raises KeyFault unless it is the only one, keeps its profile, and was born inside or is one of `ceremony` (fingerprints).
    """
    found = list(session.get_objects(SEARCH))
    if not found:
        return None
    if len(found) > 1:
        raise KeyFault("the token holds more than one wrapping key")
    key = found[0]
    if key.key_type is not KeyType.AES or key[Attribute.VALUE_LEN] != 32:
        raise KeyFault("the wrapping key is not an AES-256 key")
    check_attributes(key, {**WRAPPING_PROFILE, Attribute.TOKEN: True})
    _check_unwrap_template(session, key)
    mark = fingerprint_of(session, key)
    if not is_born_inside(key, Mechanism.AES_KEY_GEN) and mark not in ceremony:
        raise KeyFault(
            "the wrapping key was not born inside, and the configuration names no such ceremony key"
        )
    return key, mark


def fingerprint_of(session: Any, key: Any) -> bytes:
    """Return 32 bytes that tell wrapping keys apart; a ceremony computes the same without a token."""
    known = session.create_object(
        {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
            Attribute.VALUE: FINGERPRINT_VALUE,
            Attribute.TOKEN: False,
            Attribute.EXTRACTABLE: True,
        }
    )
    try:
        wrapped = key.wrap_key(known, mechanism=Mechanism.AES_KEY_WRAP)
    finally:
        known.destroy()
    return hashlib.sha256(FINGERPRINT_TAG + wrapped).digest()


def generate_pair(session: Any) -> tuple[Any, Any]:
    """Make an extractable secp256k1 session key pair, to be wrapped and destroyed at once."""
    parameters = session.create_domain_parameters(
        KEY_TYPE["secp256k1"], {Attribute.EC_PARAMS: EC_PARAMS["secp256k1"]}, local=True
    )
    public, private = parameters.generate_keypair(
        store=False,
        mechanism=GENERATION["secp256k1"],
        capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
        private_template=dict(NEWBORN_PROFILE),
    )
    return public, private


def unwrap(key: Any, blob: bytes, profile: Mapping[Attribute, bool] = UNWRAPPED_PROFILE) -> Any:
    """Return the session object that these 72 bytes become."""
    wanted = {attribute: value for attribute, value in profile.items() if attribute is not Attribute.TOKEN}
    return key.unwrap_key(
        ObjectClass.PRIVATE_KEY,
        KEY_TYPE["secp256k1"],
        blob,
        store=False,
        mechanism=WRAPPING,
        capabilities=MechanismFlag.SIGN,
        # The library would add attributes of secret keys, which the token refuses on a private one.
        template={
            **wanted,
            Attribute.ENCRYPT: DEFAULT,
            Attribute.WRAP: DEFAULT,
            Attribute.VERIFY: DEFAULT,
        },
    )


def _check_unwrap_template(session: Any, key: Any) -> None:
    """Raise KeyFault unless the token refuses to unwrap into a key that could leave: the template cannot be read, only tried."""
    public, private = generate_pair(session)
    try:
        blob = key.wrap_key(private, mechanism=WRAPPING)
    finally:
        private.destroy()
        public.destroy()
    try:
        unwrap(key, blob, {**UNWRAPPED_PROFILE, Attribute.EXTRACTABLE: True}).destroy()
    except TemplateInconsistent:
        return
    raise KeyFault("the wrapping key would give wrapped keys away: it has no unwrap template")
