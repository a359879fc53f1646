"""One transaction that several parties signed apart: their envelopes put together. Pure.

Each party returns an envelope with its own signature; the network wants one envelope with all of them. Source:
Stellar-transaction.x, TransactionV1Envelope.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from stellar_sdk import TransactionEnvelope
from stellar_sdk.exceptions import SdkError

from custody.kernel.errors import InvalidInput

SIGNATURES_MAX = 20
"""Most signatures that an envelope can carry."""


class EnvelopesDiffer(InvalidInput):
    """The envelopes are not those of one transaction, or are none, or carry too many signatures together."""

    code = "envelopes_differ"
    public = "These envelopes are not signatures of one transaction."


def merge_envelopes(envelopes: Sequence[bytes], passphrase: str) -> bytes:
    """Return the envelope with every signature of these, each once, in their order; all must hold the same transaction.

    Whether the signatures verify and are enough only the network judges. Raises EnvelopesDiffer.
    """
    try:
        parts = [
            TransactionEnvelope.from_xdr(base64.b64encode(envelope).decode(), passphrase)
            for envelope in envelopes
        ]
    except (SdkError, ValueError, EOFError, TypeError) as error:
        raise EnvelopesDiffer from error
    if len({part.hash() for part in parts}) != 1:
        raise EnvelopesDiffer
    signatures = list(dict.fromkeys(each for part in parts for each in part.signatures))
    if len(signatures) > SIGNATURES_MAX:
        raise EnvelopesDiffer
    merged = parts[0]
    merged.signatures = signatures
    return base64.b64decode(merged.to_xdr())
