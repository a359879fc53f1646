"""TLS towards banks: theirs by the authority that the operator names, ours by the certificate that they gave us."""

from __future__ import annotations

import ssl

from custody.settings import PeerTlsSettings


def build_context(chosen: PeerTlsSettings) -> ssl.SSLContext:
    """Believe this authority alone, and show this certificate. Raises OSError (also of a key that does not fit)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(chosen.ca)
    context.load_cert_chain(chosen.certificate, chosen.key)
    return context
