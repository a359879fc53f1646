"""Judge a passkey's answer to a challenge that is no approval: the same strictness, for administrators who confirm themselves."""

from __future__ import annotations

from custody.policy.model import ApproverKey, Assertion, Decision, PasskeyTerms, Word
from custody.signing.evidence import verify_signature
from signer.protocol.webauthn import read_counter


def verify_answer(
    *,
    subject: str,
    algorithm: str,
    public_key: str,
    terms: PasskeyTerms,
    assertion: Assertion,
    signature: bytes,
    challenge: bytes,
) -> int:
    """The passkey's counter, if it signed this very challenge on one of its pages, with the person verified.

    Raises InvalidDecision with the signer's own reason.
    """
    key = ApproverKey(algorithm=algorithm, public_key=public_key, passkey=terms)
    # Shaped as a decision, which is what the one judge of assertions takes; the word is not part of what is signed here.
    decision = Decision(
        approver=subject,
        public_key=public_key,
        word=Word.APPROVE,
        signature=signature.hex(),
        assertion=assertion,
    )
    verify_signature(key, decision, challenge)
    return read_counter(assertion.authenticator_data)
