"""The sender against hostile names and servers: rebinding, mixed answers, wrong certificates, redirects, proxies."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from custody.webhooks.sender import Sender, SystemResolver
from tests.fakes.webhook_receiver import FakeNames, Receiver, receiving
from tests.integration.webhook_stage import LOCAL, make_webhook_settings, server_tls

NAME = "receiver.example"
HEADERS = {"webhook-id": "evt_1"}


def write_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate of its own authority for this name, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, private


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    return write_certificate(tmp_path, NAME)


@pytest.fixture
async def server(certificate: tuple[Path, Path]) -> AsyncIterator[Receiver]:
    async with receiving(server_tls(*certificate)) as receiver:
        yield receiver


async def test_the_checked_address_is_pinned_and_the_name_stays_in_tls_and_host(
    server: Receiver, certificate: tuple[Path, Path]
) -> None:
    names = FakeNames(answers={NAME: [["127.0.0.1"]]})
    sender = Sender(make_webhook_settings(ca_file=certificate[0], allow_http=False), names)
    answer = await sender.send(server.url(NAME, scheme="https"), HEADERS, b"{}")
    assert (answer.status, answer.error) == (200, "")
    assert server.received[0].headers["host"] == f"{NAME}:{server.port}"
    assert names.asked == [NAME]


@pytest.mark.parametrize("trusted", [True, False])
async def test_a_certificate_of_another_name_or_of_nobody_is_refused(
    server: Receiver, certificate: tuple[Path, Path], trusted: bool
) -> None:
    names = FakeNames(answers={"other.example": [["127.0.0.1"]], NAME: [["127.0.0.1"]]})
    settings = make_webhook_settings(ca_file=certificate[0] if trusted else None)
    host = "other.example" if trusted else NAME
    answer = await Sender(settings, names).send(server.url(host, scheme="https"), HEADERS, b"{}")
    assert (answer.status, answer.error) == (None, "tls_failed")
    assert server.received == []


async def test_a_name_that_changes_between_check_and_use_gains_nothing() -> None:
    """The first answer is opened, the second is this machine's own service: only one lookup is made, and its answer is used."""
    async with receiving() as inside:
        names = FakeNames(answers={NAME: [["10.20.0.1"], ["127.0.0.1"]]})
        settings = make_webhook_settings(allowed_networks=("10.20.0.0/16",), timeout_s=1)
        answer = await Sender(settings, names).send(inside.url(NAME), HEADERS, b"{}")
        assert answer.error in ("timeout", "connection_failed")
        assert (names.asked, inside.connections) == ([NAME], 0)
        # The next sending asks anew, and meets the guard.
        answer = await Sender(settings, names).send(inside.url(NAME), HEADERS, b"{}")
        assert (answer.status, answer.error) == (None, "webhook_address_refused")
        assert inside.connections == 0


@pytest.mark.parametrize(
    "told", [["127.0.0.1"], ["::1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["169.254.169.254"]]
)
async def test_names_that_lead_inside_are_not_connected_to(told: list[str]) -> None:
    async with receiving() as inside:
        sender = Sender(make_webhook_settings(allowed_networks=()), FakeNames(answers={NAME: [told]}))
        answer = await sender.send(inside.url(NAME), HEADERS, b"{}")
        assert (answer.status, answer.error) == (None, "webhook_address_refused")
        assert inside.connections == 0


@pytest.mark.parametrize("host", ["localhost", "127.1", "2130706433", "0x7f000001", "0177.0.0.1"])
async def test_other_spellings_of_this_machine_are_seen_through(host: str) -> None:
    async with receiving() as inside:
        sender = Sender(make_webhook_settings(allowed_networks=()), SystemResolver())
        answer = await sender.send(inside.url(host), HEADERS, b"{}")
        assert answer.error in ("webhook_address_refused", "name_not_found")
        assert inside.connections == 0


async def test_redirects_proxies_and_dead_ends_are_failures_and_no_errors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with receiving() as receiver, receiving() as elsewhere:
        monkeypatch.setenv("HTTP_PROXY", elsewhere.url(path=""))
        monkeypatch.setenv("ALL_PROXY", elsewhere.url(path=""))
        location = f"location: {elsewhere.url()}\r\nset-cookie: a=b"
        receiver.answers = [f"HTTP/1.1 307 Go\r\n{location}\r\ncontent-length: 0\r\n\r\n".encode(), 200]
        names = FakeNames(answers={NAME: [["127.0.0.2", "127.0.0.1"]]})
        sender = Sender(make_webhook_settings(allowed_networks=LOCAL), names)
        first = await sender.send(receiver.url(NAME), HEADERS, b"{}")
        second = await sender.send(receiver.url(NAME), HEADERS, b"{}")
        assert (first.status, first.error, second.status) == (307, "redirect_refused", 200)
        assert elsewhere.connections == 0
        assert receiver.connections == 2
        assert "cookie" not in receiver.received[1].headers
        receiver.answers = [b"HTTP/1.1 429 Slow\r\nretry-after: 77\r\n\r\n", b"", b"HTTP/1.1 200"]
        assert (await sender.send(receiver.url(NAME), HEADERS, b"{}")).retry_after_s == 77
        assert (await sender.send(receiver.url(NAME), HEADERS, b"{}")).error == "broken_answer"
        assert (await sender.send(receiver.url(NAME), HEADERS, b"{}")).error == "broken_answer"
        for url, error in (
            (receiver.url("nowhere.example"), "name_not_found"),
            ("http://127.0.0.1:1/", "connection_failed"),
            ("http://127.0.0.1:1/#x", "webhook_url_refused"),
        ):
            found = Sender(make_webhook_settings(), FakeNames(answers={"127.0.0.1": [["127.0.0.1"]]}))
            assert (await found.send(url, HEADERS, b"{}")).error == error
