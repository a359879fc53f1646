"""Everything of a WebAuthn assertion but its signature, judged strictly: SPEC.md section 3 names each refusal.

Libraries accept a page inside another page, another credential's id and a counter that stands still; none of that may pass here.
Source: Web Authentication Level 2, sections 5.8.1, 6.1 and 7.2.
"""

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

from signer.protocol.approvals import Assertion
from signer.protocol.approver_keys import Passkey
from signer.protocol.wire import MalformedMessage, check_nesting

CLIENT_DATA_MAX = 2048
"""Longest client data in bytes. A browser's has about 150 and the origin."""
SIGNATURE_MAX = 512
"""Longest signature in bytes: RS256 with a modulus of 4096 bits."""
AUTHENTICATOR_DATA_LENGTH = 37
"""Hash, flags and counter. Neither attested data nor extensions are asked for, so neither may follow."""
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP = 0x01, 0x04, 0x08, 0x10
_KNOWN_FLAGS = _PRESENT | _VERIFIED | _ELIGIBLE | _BACKED_UP


class AssertionRefused(Exception):
    """The assertion is not one that may count. `code` is stable."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """An assertion in which everything is right, if its signature is."""

    signed: bytes
    """The bytes that the authenticator signed."""
    counter: int
    """Assertions that the credential has made; 0 when it does not count."""


def check_assertion(key: Passkey, assertion: Assertion, challenge: bytes) -> Checked:
    """Judge all that the signature covers against the key as it is registered; raises AssertionRefused."""
    if assertion.credential_id != key.credential_id:
        raise AssertionRefused("wrong_credential")
    if not 1 <= len(assertion.signature) <= SIGNATURE_MAX:
        raise AssertionRefused("bad_assertion_signature")
    _check_client_data(key, assertion.client_data_json, challenge)
    counter = _check_authenticator_data(key, assertion.authenticator_data)
    signed = assertion.authenticator_data + hashlib.sha256(assertion.client_data_json).digest()
    return Checked(signed=signed, counter=counter)


def _check_client_data(key: Passkey, data: bytes, challenge: bytes) -> None:
    """What the browser says it was asked, by which page. Names that this does not know are the browser's own business."""
    fields = _read_client_data(data)
    if fields.get("type") != "webauthn.get":
        raise AssertionRefused("wrong_ceremony")
    if fields.get("challenge") != encode_base64url(challenge):
        raise AssertionRefused("wrong_challenge")
    if fields.get("origin") not in key.origins:
        raise AssertionRefused("wrong_origin")
    if fields.get("crossOrigin", False) is not False or "topOrigin" in fields:
        raise AssertionRefused("cross_origin")


def _read_client_data(data: bytes) -> dict[str, Any]:
    if len(data) > CLIENT_DATA_MAX:
        raise AssertionRefused("bad_client_data")
    try:
        text = data.decode("utf-8")
        check_nesting(text)
        value = _DECODER.decode(text)
    except (ValueError, MalformedMessage) as error:
        raise AssertionRefused("bad_client_data") from error
    if not isinstance(value, dict):
        raise AssertionRefused("bad_client_data")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name is repeated")
    return value


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse_constant)


def _check_authenticator_data(key: Passkey, data: bytes) -> int:
    """What the authenticator says about itself and the person before it; returns the counter."""
    if len(data) != AUTHENTICATOR_DATA_LENGTH:
        raise AssertionRefused("bad_authenticator_data")
    flags = data[32]
    if flags & ~_KNOWN_FLAGS:
        raise AssertionRefused("bad_authenticator_data")
    if data[:32] != hashlib.sha256(key.rp_id.encode("ascii")).digest():
        raise AssertionRefused("wrong_rp_id")
    if not flags & _PRESENT:
        raise AssertionRefused("user_not_present")
    if not flags & _VERIFIED:
        raise AssertionRefused("user_not_verified")
    eligible = bool(flags & _ELIGIBLE)
    if eligible is key.device_bound or (flags & _BACKED_UP and not eligible):
        raise AssertionRefused("backup_mismatch")
    return read_counter(data)


def read_counter(authenticator_data: bytes) -> int:
    """Return the counter of authenticator data that was checked before."""
    return int.from_bytes(authenticator_data[33:], "big")


def encode_base64url(data: bytes) -> str:
    """Return the bytes as WebAuthn writes them: base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode_base64url(text: str) -> bytes:
    """Return the bytes behind their one spelling; raises ValueError for any other."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if encode_base64url(data) != text:
        raise ValueError("not the one spelling")
    return data
