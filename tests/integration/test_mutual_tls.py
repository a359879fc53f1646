"""Services that know each other by certificates: real ones, from an authority that is made for the test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from api.main import Server, build_server, create_routes
from custody.settings import ApiSettings, PeerTlsSettings, TlsSettings
from rails.tls import build_context
from tests.fakes.bank_process import free_port


class Authority:
    """Vouches for whom it is asked to."""

    def __init__(self, home: Path, name: str) -> None:
        self._home = home
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = home / f"{name}.pem"
        builder = _builder(self._name, self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.certificate.write_bytes(_pem(builder.sign(self._key, SHA256())))

    def issue(self, name: str, usage: x509.ObjectIdentifier) -> tuple[Path, Path]:
        """A certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._name, key.public_key())
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        certificate, secret = self._home / f"{name}.pem", self._home / f"{name}.key"
        certificate.write_bytes(_pem(builder.sign(self._key, SHA256())))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate, secret


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[str, Authority, Path]]:
    """The API's routes behind TLS that asks for certificates; its address, who vouches, and where files are."""
    authority = Authority(tmp_path, "ours")
    certificate, key = authority.issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
    port = free_port()
    chosen = ApiSettings(
        port=port, tls=TlsSettings(certificate=certificate, key=key, client_ca=authority.certificate)
    )
    server = Server(build_server(create_routes(), chosen))
    serving = asyncio.create_task(server.serve())
    for _ in range(2000):
        if server.started:
            break
        await asyncio.sleep(0.01)
    yield f"https://localhost:{port}", authority, tmp_path
    server.should_exit = True
    await serving


async def test_only_whom_our_authority_vouches_for_gets_as_far_as_http(
    served: tuple[str, Authority, Path],
) -> None:
    url, authority, home = served
    stranger = Authority(home, "theirs")
    ours = authority.issue("rails", ExtendedKeyUsageOID.CLIENT_AUTH)
    theirs = stranger.issue("intruder", ExtendedKeyUsageOID.CLIENT_AUTH)
    known = build_context(PeerTlsSettings(ca=authority.certificate, certificate=ours[0], key=ours[1]))
    assert await ask(url, known) == 200
    nameless = ssl.create_default_context(cafile=str(authority.certificate))
    forged = build_context(PeerTlsSettings(ca=authority.certificate, certificate=theirs[0], key=theirs[1]))
    deceived = build_context(PeerTlsSettings(ca=stranger.certificate, certificate=ours[0], key=ours[1]))
    for context in (nameless, forged, deceived):
        with pytest.raises(httpx.TransportError):
            await ask(url, context)


async def ask(url: str, context: ssl.SSLContext) -> int:
    """The status of a question that needs nothing but the process."""
    async with httpx.AsyncClient(verify=context, trust_env=False) as http:
        return (await http.get(f"{url}/livez")).status_code
