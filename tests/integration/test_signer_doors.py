"""The TLS door with real certificates: who gets in, as what, and that the other door keeps working."""

from __future__ import annotations

import datetime as dt
import hashlib
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from signer.protocol.messages import (
    CreateKey,
    GetPolicy,
    Health,
    HealthView,
    KeyView,
    PolicyView,
    Refused,
    Request,
    Response,
    Signed,
    Veto,
    dump,
    load_response,
)
from signer.protocol.wire import ConnectionEnded, MalformedMessage, receive_frame, send_frame
from tests.fakes.signer_people import bind_evm, make_policy, make_transfer
from tests.integration.signer_harness import MODULE, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]
PEOPLE = ("worker", "gateway", "operator", "auditor")
ROLES = {"worker": "requester", "gateway": "approver", "operator": "operator", "auditor": "observer"}
KEY = CreateKey(request_id="one", org="acme", vault="hot", curve="secp256k1", label="one")


@dataclass(frozen=True)
class Identity:
    """A key with a certificate signed by itself."""

    certificate: Path
    key: Path
    public_key_sha256: str


def make_identity(directory: Path, name: str) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("signer")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    made = Identity(
        certificate=directory / f"{name}.pem",
        key=directory / f"{name}.key",
        public_key_sha256=hashlib.sha256(
            key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest(),
    )
    made.certificate.write_bytes(certificate.public_bytes(Encoding.PEM))
    made.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    made.key.chmod(0o600)
    return made


@dataclass
class Site:
    """A signer with both doors, and everybody's certificates."""

    signer: SignerProcess
    port: int
    people: dict[str, Identity]

    def call(
        self, who: Identity | None, *requests: Request, newest: ssl.TLSVersion | None = None
    ) -> list[Response]:
        """Answers over one TLS connection. Raises OSError or ConnectionEnded when not let in."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.people["signer"].certificate)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if newest is not None:
            context.maximum_version = newest
        if who is not None:
            context.load_cert_chain(who.certificate, who.key)
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=20) as plain,
            context.wrap_socket(plain, server_hostname="signer") as stream,
        ):
            answers = []
            for request in requests:
                send_frame(stream, dump(request))
                answers.append(load_response(receive_frame(stream)))
            return answers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("doors")
    names = ("signer", *PEOPLE, "unnamed", "stranger")
    people = {name: make_identity(directory, name) for name in names}
    trusted = directory / "clients.pem"
    # "unnamed" has a certificate that the handshake accepts and no role; "stranger" not even that.
    trusted.write_text("".join(people[name].certificate.read_text() for name in (*PEOPLE, "unnamed")))
    made = SignerProcess(directory)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    peers = "".join(
        f'[[tls.peers]]\npublic_key_sha256 = "{people[name].public_key_sha256}"\nroles = ["{ROLES[name]}"]\n'
        for name in PEOPLE
    )
    made.tls = f"""
[tls]
address = "127.0.0.1"
port = {port}
certificate = "{people["signer"].certificate}"
key = "{people["signer"].key}"
client_certificates = "{trusted}"
connections = 2
{peers}"""
    made.prepare(make_policy())
    made.start()
    yield Site(made, port, people)
    made.kill()


def refusal_of(answer: Response) -> str:
    assert isinstance(answer, Refused)
    return answer.code


def test_a_named_certificate_gets_its_role_and_no_other(site: Site) -> None:
    veto = Veto(intent=b"x", approvals=())
    expected = {
        "worker": ("forbidden", "malformed_intent"),
        "gateway": ("forbidden", "malformed_intent"),
        "operator": ("", "forbidden"),
        "auditor": ("forbidden", "forbidden"),
    }
    for name, (on_key, on_veto) in expected.items():
        policy, key, vetoed = site.call(site.people[name], GetPolicy(), KEY, veto)
        assert isinstance(policy, PolicyView)
        assert isinstance(key, KeyView) if not on_key else refusal_of(key) == on_key
        assert refusal_of(vetoed) == on_veto


def test_a_worker_signs_over_tls(site: Site) -> None:
    (key,) = site.call(site.people["operator"], KEY)
    assert isinstance(key, KeyView)
    intent = make_transfer(key, int(time.time()))
    assert isinstance(site.signer.sign(intent, bind_evm(0), "alice", "bob"), Signed)


@pytest.mark.parametrize("name", ["stranger", "nobody"])
def test_a_certificate_that_nobody_vouches_for_is_not_let_in(site: Site, name: str) -> None:
    with pytest.raises((OSError, ConnectionEnded, MalformedMessage)):
        site.call(site.people.get(name), Health())


def test_a_certificate_without_a_role_is_refused(site: Site) -> None:
    try:
        (answer,) = site.call(site.people["unnamed"], Health())
    except OSError:  # the refusal was sent before our question arrived, which resets the connection
        return
    assert refusal_of(answer) == "forbidden"


def test_older_tls_is_not_spoken(site: Site) -> None:
    with pytest.raises(ssl.SSLError):
        site.call(site.people["worker"], Health(), newest=ssl.TLSVersion.TLSv1_2)


def test_strangers_who_fill_the_tls_door_keep_nobody_from_the_other(site: Site) -> None:
    """They say nothing, so that the handshake never ends; each is thrown out after `request_s`."""
    idle = [socket.create_connection(("127.0.0.1", site.port), timeout=10) for _ in range(6)]
    try:
        assert isinstance(site.signer.ask(Health()), HealthView)
        site.signer.connect()
        assert isinstance(site.signer.ask(Health()), HealthView)
        for each in idle:
            while each.recv(4096):
                pass
    finally:
        for each in idle:
            each.close()
    assert isinstance(site.call(site.people["auditor"], Health())[0], HealthView)


def test_bytes_that_are_not_tls_end_the_connection(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as plain:
        send_frame(plain, dump(Health()))
        with pytest.raises((OSError, ConnectionEnded, MalformedMessage)):
            load_response(receive_frame(plain))


def test_it_stops_while_a_tls_peer_is_connected(site: Site) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(site.people["signer"].certificate)
    context.load_cert_chain(site.people["worker"].certificate, site.people["worker"].key)
    with (
        socket.create_connection(("127.0.0.1", site.port), timeout=20) as plain,
        context.wrap_socket(plain) as stream,
    ):
        send_frame(stream, dump(Health()))
        assert isinstance(load_response(receive_frame(stream)), HealthView)
        assert site.signer.stop() == 0
    site.signer.start()


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        ("mode", "chmod 600"),
        ("key", "cannot be used"),
        ("missing", "cannot be read"),
        ("port", "cannot be used"),
    ],
)
def test_a_tls_door_that_cannot_open_says_why(site: Site, harm: str, sentence: str) -> None:
    site.signer.stop()
    config, key = site.signer.directory / "signer.toml", site.people["signer"].key
    whole, secret = config.read_text(), key.read_bytes()
    taken = socket.create_server(("127.0.0.1", 0))
    if harm == "mode":
        key.chmod(0o640)
    elif harm == "key":
        key.write_bytes(site.people["worker"].key.read_bytes())
    elif harm == "missing":
        config.write_text(whole.replace("clients.pem", "nobody.pem"))
    else:
        config.write_text(whole.replace(f"port = {site.port}", f"port = {taken.getsockname()[1]}"))
    try:
        code, said = site.signer.refuse_to_start()
    finally:
        taken.close()
        config.write_text(whole)
        key.write_bytes(secret)
        key.chmod(0o600)
        site.signer.kill()
        site.signer.start()
    assert code == 2
    assert sentence in said
