"""What an approver signs: a domain-separated message over the intent's digest, the decision and the approver
set.
"""

import hashlib
from dataclasses import dataclass

DECISIONS = ("approve", "reject")
APPROVAL_TAG = b"custody-approve-v1\x00"
"""For intents that become a transaction."""
GOVERNANCE_TAG = b"custody-govern-v1\x00"
"""For governance intents: nobody's word about keys or policy is ever one about money, nor the other way round."""
BATCH_TAG = b"custody-approve-batch-v1\x00"
"""For batches: a word about one payment is none about many."""
STOP_TAG = b"custody-stop-v1\x00"
"""For orders to stop: one person's word is enough there, so it must be enough nowhere else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSignature:
    """The message signed by an Ed25519 or a P-256 key itself."""

    signature: bytes
    """64 bytes: Ed25519 (RFC 8032), or r‖s of ECDSA with SHA-256 where s is in the lower half."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """The message signed by a passkey, as its challenge. Source: Web Authentication Level 2, section 6.3.3."""

    credential_id: str
    """base64url without padding."""
    authenticator_data: bytes
    client_data_json: bytes
    signature: bytes
    """Over authenticator_data ‖ SHA-256(client_data_json); for ES256 in DER."""


Evidence = RawSignature | Assertion


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """One person's signed decision about one intent."""

    approver: str
    """Id of the person in the signer's policy."""
    public_key: str
    """Key that signed, spelled as in the policy; must belong to that person."""
    decision: str
    """"approve" or "reject"; one valid reject ends the intent for good."""
    evidence: RawSignature | Assertion
    """What shows that the key signed `approval_message`; its form is the one of the key."""


def approval_message(
    *, decision: str, digest: bytes, approver_set_version: int, tag: bytes = APPROVAL_TAG
) -> bytes:
    """Return the 32 bytes to sign. `tag` is APPROVAL_TAG, GOVERNANCE_TAG, BATCH_TAG or STOP_TAG.

    The decision and the set's version are inside, so an approval is neither usable as a rejection nor under
    another set of approvers. Raises ValueError when an argument is outside its range.
    """
    if decision not in DECISIONS:
        raise ValueError("bad_decision")
    if len(digest) != hashlib.sha256().digest_size:
        raise ValueError("bad_digest")
    if not 1 <= approver_set_version < 2**63:
        raise ValueError("bad_approver_set_version")
    body = decision.encode("ascii") + b"\x00" + digest + approver_set_version.to_bytes(8, "big")
    return hashlib.sha256(tag + body).digest()
