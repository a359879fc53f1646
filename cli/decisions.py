"""Approvers' decisions as JSON: what `approve` prints and what the API shows, read as the signer takes them."""

from __future__ import annotations

import base64
from typing import Any

from signer.protocol.approvals import Approval, Assertion, RawSignature


def read_decision(value: Any) -> Approval:
    """Return the approval in this JSON object; raises KeyError, TypeError or ValueError when it is none."""
    signature, shown = bytes.fromhex(value["signature"]), value.get("webauthn")
    evidence = RawSignature(signature=signature) if shown is None else _assertion(shown, signature)
    return Approval(
        approver=str(value["approver"]),
        public_key=str(value["public_key"]),
        decision=str(value["decision"]),
        evidence=evidence,
    )


def _assertion(shown: Any, signature: bytes) -> Assertion:
    return Assertion(
        credential_id=str(shown["credential_id"]),
        authenticator_data=_base64url(shown["authenticator_data"]),
        client_data_json=_base64url(shown["client_data_json"]),
        signature=signature,
    )


def _base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
