"""A request for a signature on its way to an answer."""

from signer.facts import TransactionSigned
from signer.protocol import canonical
from signer.protocol.intent import Intent
from signer.protocol.messages import Sign, Signed
from signer.references import References
from signer.refusal import HsmFault, Refusal

Outcome = Signed | Refusal | HsmFault


class Case:
    """One request, its intent read. Raises Refusal("malformed_intent")."""

    def __init__(self, request: Sign) -> None:
        self.request = request
        self.intent, self.digest = read_intent(request.intent)
        self.unsigned = b""
        """What is to be signed."""
        self.found: References | None = None
        """What the intent points at; set once it is allowed and bound, so that it is to be signed."""
        self.result: TransactionSigned | Refusal | HsmFault = HsmFault("not signed")
        """What there is to answer; to begin with, that there is no signature."""

    def outcome(self) -> Outcome:
        """Return the answer."""
        if isinstance(self.result, TransactionSigned):
            signed = self.result
            return Signed(tx=signed.tx, tx_hash=signed.tx_hash, intent_digest=signed.digest.hex())
        return self.result


def read_intent(data: bytes) -> tuple[Intent, bytes]:
    """Return the intent and its digest; raises Refusal("malformed_intent")."""
    try:
        return canonical.decode(data), canonical.digest(data)
    except canonical.MalformedIntent as error:
        raise Refusal("malformed_intent", str(error)) from error


def open_case(request: Sign) -> Case | Refusal:
    """Return the request as a case, or why it is none."""
    try:
        return Case(request)
    except Refusal as refusal:
        return refusal
