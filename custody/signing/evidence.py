"""Approvers' keys and signatures in the signer's words, verified here as the signer will.

The code is this side's own, since nothing but the protocol is shared; one table of cases in the tests holds both to it.
"""

from __future__ import annotations

from collections.abc import Callable

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from custody.policy.model import ApproverKey, Assertion, Decision, PasskeyTerms
from custody.signing.errors import InvalidDecision
from signer.protocol import approvals, approver_keys
from signer.protocol.webauthn import AssertionRefused, check_assertion

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_Check = Callable[[str, bytes, bytes], None]
"""Takes key, signature and message; raises ValueError or InvalidSignature."""


def read_key(key: approver_keys.ApproverKey) -> ApproverKey:
    """The key as this side keeps it."""
    match key:
        case approver_keys.Ed25519Key():
            return ApproverKey(algorithm="ed25519", public_key=key.public_key, passkey=None)
        case approver_keys.P256Key():
            return ApproverKey(algorithm="p256", public_key=key.public_key, passkey=None)
        case approver_keys.Passkey():
            terms = PasskeyTerms(
                credential_id=key.credential_id,
                rp_id=key.rp_id,
                origins=key.origins,
                device_bound=key.device_bound,
            )
            return ApproverKey(algorithm=key.algorithm, public_key=key.public_key, passkey=terms)


def build_approval(decision: Decision) -> approvals.Approval:
    """The decision as it goes to the signer. Raises ValueError when the signature is not hexadecimal."""
    signature = bytes.fromhex(decision.signature)
    return approvals.Approval(
        approver=decision.approver,
        public_key=decision.public_key,
        decision=decision.word.value,
        evidence=approvals.RawSignature(signature=signature)
        if decision.assertion is None
        else _assertion(decision.assertion, signature),
    )


def verify_signature(key: ApproverKey, decision: Decision, message: bytes) -> None:
    """Check that the key signed the message in the form of its kind. Raises InvalidDecision with the signer's own code."""
    try:
        signature = bytes.fromhex(decision.signature)
    except ValueError as error:
        raise InvalidDecision(reason="bad_approval_signature", approver=decision.approver) from error
    if signature.hex() != decision.signature:
        raise InvalidDecision(reason="bad_approval_signature", approver=decision.approver)
    if (key.passkey is None) is not (decision.assertion is None):
        raise InvalidDecision(reason="wrong_evidence", approver=decision.approver)
    code = "bad_approval_signature"
    if key.passkey is not None and decision.assertion is not None:
        code = "bad_assertion_signature"
        message = _signed_by_passkey(key, key.passkey, decision, decision.assertion, signature, message)
    try:
        _CHECKS[key.algorithm](key.public_key, signature, message)
    except (ValueError, InvalidSignature) as error:
        raise InvalidDecision(reason=code, approver=decision.approver) from error


def _signed_by_passkey(
    key: ApproverKey,
    terms: PasskeyTerms,
    decision: Decision,
    assertion: Assertion,
    signature: bytes,
    challenge: bytes,
) -> bytes:
    passkey = approver_keys.Passkey(
        algorithm=key.algorithm,
        public_key=key.public_key,
        credential_id=terms.credential_id,
        rp_id=terms.rp_id,
        origins=terms.origins,
        device_bound=terms.device_bound,
    )
    try:
        return check_assertion(passkey, _assertion(assertion, signature), challenge).signed
    except AssertionRefused as error:
        raise InvalidDecision(reason=error.code, approver=decision.approver) from error


def _assertion(assertion: Assertion, signature: bytes) -> approvals.Assertion:
    return approvals.Assertion(
        credential_id=assertion.credential_id,
        authenticator_data=assertion.authenticator_data,
        client_data_json=assertion.client_data_json,
        signature=signature,
    )


def _check_ed25519(key: str, signature: bytes, message: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(signature, message)


def _check_raw_p256(key: str, signature: bytes, message: bytes) -> None:
    """r‖s with s in the lower half, so that one signature has one spelling."""
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    if len(signature) != 64 or s > _P256_ORDER // 2:
        raise InvalidSignature
    _check_p256(key, utils.encode_dss_signature(r, s), message)


def _check_der_p256(key: str, signature: bytes, message: bytes) -> None:
    """DER with either s, as authenticators write it."""
    if utils.encode_dss_signature(*utils.decode_dss_signature(signature)) != signature:
        raise InvalidSignature
    _check_p256(key, signature, message)


def _check_p256(key: str, signature: bytes, message: bytes) -> None:
    point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(key))
    point.verify(signature, message, ec.ECDSA(SHA256()))


def _check_rs256(key: str, signature: bytes, message: bytes) -> None:
    numbers = rsa.RSAPublicNumbers(e=65537, n=int(key, 16))
    numbers.public_key().verify(signature, message, padding.PKCS1v15(), SHA256())


_CHECKS: dict[str, _Check] = {
    "ed25519": _check_ed25519,
    "p256": _check_raw_p256,
    "ES256": _check_der_p256,
    "EdDSA": _check_ed25519,
    "RS256": _check_rs256,
}
