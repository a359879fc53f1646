"""Whether a key signed a message, for each kind of key that an approver may hold. Serves every message that people sign."""

from collections.abc import Callable
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from signer.ed25519 import is_ed25519
from signer.points import P256_ORDER
from signer.protocol.approvals import Assertion, Evidence, RawSignature
from signer.protocol.approver_keys import ApproverKey, Ed25519Key, P256Key, Passkey
from signer.protocol.webauthn import AssertionRefused, check_assertion
from signer.refusal import Refusal


def verify_evidence(key: ApproverKey, evidence: Evidence, message: bytes) -> int:
    """Return the credential's counter (0 where nothing is counted) when `key` signed the 32-byte `message`; raises Refusal."""
    match key, evidence:
        case Ed25519Key(), RawSignature():
            return _verify_raw(_is_ed25519, key.public_key, evidence, message)
        case P256Key(), RawSignature():
            return _verify_raw(_is_raw_p256, key.public_key, evidence, message)
        case Passkey(), Assertion():
            return _verify_assertion(key, evidence, message)
        case _:
            raise Refusal("wrong_evidence", "the evidence is not of the key's kind")


def _verify_raw(
    is_signed: Callable[[str, bytes, bytes], bool], public_key: str, evidence: RawSignature, message: bytes
) -> int:
    if not is_signed(public_key, evidence.signature, message):
        raise Refusal("bad_approval_signature", "the signature does not verify under the key")
    return 0


def _verify_assertion(key: Passkey, assertion: Assertion, message: bytes) -> int:
    try:
        checked = check_assertion(key, assertion, message)
    except AssertionRefused as error:
        raise Refusal(error.code, "the passkey's assertion may not count") from error
    is_signed = {"ES256": _is_der_p256, "EdDSA": _is_ed25519, "RS256": _is_rs256}[key.algorithm]
    if not is_signed(key.public_key, assertion.signature, checked.signed):
        raise Refusal("bad_assertion_signature", "the signature does not verify under the key")
    return checked.counter


def _is_ed25519(public_key: str, signature: bytes, message: bytes) -> bool:
    return is_ed25519(bytes.fromhex(public_key), signature, message)


def _is_raw_p256(public_key: str, signature: bytes, message: bytes) -> bool:
    """One signature has one spelling here: fixed length, and s in the lower half."""
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    return s <= P256_ORDER // 2 and _is_p256(public_key, encode_dss_signature(r, s), message)


def _is_der_p256(public_key: str, signature: bytes, message: bytes) -> bool:
    """Either s, since authenticators do not normalise; but only DER, since other encodings are nobody's."""
    try:
        if encode_dss_signature(*decode_dss_signature(signature)) != signature:
            return False
    except ValueError:
        return False
    return _is_p256(public_key, signature, message)


def _is_p256(public_key: str, signature: bytes, message: bytes) -> bool:
    try:
        _p256_key(public_key).verify(signature, message, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


@lru_cache(maxsize=1024)
def _p256_key(public_key: str) -> EllipticCurvePublicKey:
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), bytes.fromhex(public_key))


def _is_rs256(public_key: str, signature: bytes, message: bytes) -> bool:
    key = RSAPublicNumbers(e=65537, n=int(public_key, 16)).public_key()
    try:
        key.verify(signature, message, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
