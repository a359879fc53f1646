"""`custody approve` against a real HTTP server: what is signed is what was shown, and a lying API gets no signature."""

import base64
import io
import json
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cli.approve import main
from cli.intent_words import describe
from cli.main import main as custody_main
from signer.evidence import verify_evidence
from signer.policy.approver_keys import parse_key
from signer.protocol import canonical
from signer.protocol.approvals import RawSignature, approval_message
from signer.protocol.intent import StellarPayment

GOLDEN = Path(__file__).parent.parent / "golden" / "intents"
KIND = "stellar_payment_muxed_credit"
DATA = json.loads((GOLDEN / f"{KIND}.json").read_text())["canonical"].encode()


class Api(ThreadingHTTPServer):
    """Serves one pending approval and keeps the decisions that arrive."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body: dict[str, object] = {
            "id": "wdr_1", "intent": base64.b64encode(DATA).decode(), "approver_set_version": 3,
            "digest": canonical.digest(DATA).hex(), "state": "awaiting_approval", "missing": 2,
        }  # fmt: skip
        self.status = 201
        self.decisions: list[dict[str, str]] = []
        self.seen_headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Api

    def do_GET(self) -> None:
        self.server.seen_headers.append(dict(self.headers))
        if self.path.startswith("/v1/approvals?"):
            self.reply(200, {"data": [self.server.body], "next_cursor": None})
        elif self.path.startswith("/v1/batch-approvals?"):
            self.reply(200, {"data": [], "next_cursor": None})
        elif self.path == "/v1/approvals/wdr_1":
            self.reply(200, self.server.body)
        else:
            self.reply(404, {"code": "not_found", "detail": "no \x1b[2Jsuch approval"})

    def do_POST(self) -> None:
        self.server.seen_headers.append(dict(self.headers))
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.status == 201:
            self.server.decisions.append(sent)
            self.reply(201, {**self.server.body, "state": "approved"})
        else:
            self.reply(self.server.status, {"code": "unknown_approver", "detail": "not an approver"})

    def reply(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        """Stay silent."""


@pytest.fixture
def api() -> Iterator[Api]:
    server = Api()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def key_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    path = tmp_path / "alice.pem"
    assert main(["keygen", "--out", str(path)]) == 0
    (tmp_path / "alice.pub").write_text(capsys.readouterr().out.strip())
    (tmp_path / "token").write_text("sk_test\n")
    return path


def options(api: Api, key_file: Path) -> list[str]:
    token = key_file.with_name("token")
    return [
        "--api", api.url, "--token-file", str(token), "--key-file", str(key_file), "--approver", "alice",
    ]  # fmt: skip


def verify(decision: dict[str, str], key_file: Path, word: str) -> None:
    public = key_file.with_suffix(".pub").read_text()
    message = approval_message(decision=word, digest=canonical.digest(DATA), approver_set_version=3)
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(public)).verify(
        bytes.fromhex(decision["signature"]), message
    )
    assert (decision["approver"], decision["public_key"], decision["decision"]) == ("alice", public, word)


def test_an_approval_is_shown_signed_and_sent(
    api: Api, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options(api, key_file), "--yes", "wdr_1"]) == 0
    (decision,) = api.decisions
    verify(decision, key_file, "approve")
    shown = capsys.readouterr()
    intent = canonical.decode(DATA)
    assert isinstance(intent, StellarPayment)
    for name in StellarPayment.__slots__:
        assert f"  {name} " in shown.err
    for text in (intent.destination, intent.asset, "922337203685.4775807", "2026-", intent.source):
        assert text in shown.err
    assert canonical.digest(DATA).hex()[:8] in shown.err
    assert "approved" in shown.out
    assert all(headers["Authorization"] == "Bearer sk_test" for headers in api.seen_headers)
    assert api.seen_headers[-1]["Idempotency-Key"]


def test_a_rejection_says_so_in_what_is_signed(api: Api, key_file: Path) -> None:
    assert custody_main(["approve", *options(api, key_file), "--yes", "--reject", "wdr_1"]) == 0
    verify(api.decisions[0], key_file, "reject")


def test_nothing_is_signed_without_the_typed_word(
    api: Api, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("yes\n"))
    assert main([*options(api, key_file), "wdr_1"]) == 1
    assert api.decisions == []
    monkeypatch.setattr("sys.stdin", io.StringIO("approve\n"))
    assert main([*options(api, key_file), "wdr_1"]) == 0
    assert len(api.decisions) == 1


def test_another_digest_or_form_is_never_signed(api: Api, key_file: Path) -> None:
    other = replace(canonical.decode(DATA), amount=1)  # type: ignore[call-arg]  # the vector is a payment
    api.body["digest"] = canonical.digest(canonical.encode(other)).hex()
    assert main([*options(api, key_file), "--yes", "wdr_1"]) == 1
    api.body["intent"] = base64.b64encode(DATA.replace(b'"v":"1"', b'"v":"2"')).decode()
    assert main([*options(api, key_file), "--yes", "wdr_1"]) == 1
    for wrong in ("%%", 5, None):
        api.body["intent"] = wrong
        assert main([*options(api, key_file), "--yes", "wdr_1"]) == 2
    assert api.decisions == []


def test_problems_of_the_api_are_told_without_control_characters(
    api: Api, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*options(api, key_file), "--yes", "wdr_2"]) == 1
    said = capsys.readouterr().err
    assert "404 not_found" in said
    assert "\x1b" not in said
    api.status = 422
    assert main([*options(api, key_file), "--yes", "wdr_1"]) == 1
    assert "unknown_approver" in capsys.readouterr().err


def test_the_list_comes_from_the_bytes_themselves(
    api: Api, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "--api", api.url]) == 0
    out = capsys.readouterr().out
    assert "wdr_1" in out
    assert "922337203685.4775807" in out
    assert "1 waiting" in out


def test_offline_prints_the_approval(
    key_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "intent"
    path.write_bytes(DATA)
    arguments = ["--offline", str(path), "--key-file", str(key_file), "--approver", "alice", "--yes"]
    assert main(arguments) == 2
    assert main([*arguments, "--approver-set-version", "3"]) == 0
    verify(json.loads(capsys.readouterr().out), key_file, "approve")


def test_keys_are_private_files_and_are_never_overwritten(key_file: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    assert main(["keygen", "--out", str(key_file)]) == 2
    path = tmp_path / "intent"
    path.write_bytes(DATA)
    arguments = [
        "--offline",
        str(path),
        "--approver",
        "a",
        "--yes",
        "--approver-set-version",
        "1",
        "--key-file",
    ]
    seed = tmp_path / "seed"
    seed.write_text("11" * 32)
    seed.chmod(0o644)
    assert main([*arguments, str(seed)]) == 2
    seed.chmod(0o600)
    assert main([*arguments, str(seed)]) == 0
    seed.write_text("not hex")
    assert main([*arguments, str(seed)]) == 2


def test_every_kind_is_described_field_by_field(tmp_path: Path, key_file: Path) -> None:
    for vector in sorted(GOLDEN.glob("*.json")):
        path = tmp_path / vector.stem
        path.write_text(json.loads(vector.read_text())["canonical"])
        arguments = ["--offline", str(path), "--key-file", str(key_file), "--approver", "alice", "--yes"]
        assert main([*arguments, "--approver-set-version", "1"]) == 0


def test_wrong_calls_say_what_is_missing(
    api: Api, key_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert main(["wdr_1"]) == 2
    assert "--api is required" in capsys.readouterr().err
    assert main(["wdr_1", "--api", api.url]) == 2
    assert main(["list", "--api", "http://127.0.0.1:1"]) == 1
    assert "cannot be reached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "field", "words"),
    [
        ("stellar_payment_native", "amount", "1.5000000 XLM (15000000 stroops)"),
        ("stellar_create_account", "amount", "1.0000000 XLM (10000000 stroops)"),
        ("stellar_create_claimable_balance", "amount", "2.5000000 USDC:"),
        ("stellar_create_claimable_balance", "means", "set aside on chain until the destination"),
        ("stellar_path_payment_strict_send", "send_amount", "0.0000500 XLM (500 stroops)"),
        ("stellar_path_payment_strict_send", "dest_min", "0.0000003 USDC:"),
        ("stellar_path_payment_strict_receive", "send_max", "0.0000500 USDC:"),
        ("evm_sweep", "amount", "0.100000000000000000 of the native coin"),
        ("evm_erc20_sweep", "amount", "99 atomic units of token 0x"),
        ("evm_erc20_approve_revoke", "amount", "0 atomic units of token 0x"),
        ("evm_replace", "amount", "1.000000000000000000 of the native coin"),
        ("stellar_message", "text", '"for '),
    ],
)
def test_amounts_are_shown_with_their_unit(kind: str, field: str, words: str) -> None:
    data = json.loads((GOLDEN / f"{kind}.json").read_text())["canonical"].encode()
    assert dict(describe(canonical.decode(data)))[field].startswith(words)


def test_a_p256_key_signs_what_the_signer_accepts(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bob.pem"
    assert main(["keygen", "--kind", "p256", "--out", str(path)]) == 0
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    public = capsys.readouterr().out.strip()
    (tmp_path / "token").write_text("sk_test")
    for _ in range(8):
        assert main([*options(api, path), "--yes", "wdr_1"]) == 0
    message = approval_message(decision="approve", digest=canonical.digest(DATA), approver_set_version=3)
    key = parse_key({"type": "p256", "public_key": public}, "the new key")
    for sent in api.decisions:
        assert sent["public_key"] == public
        evidence = RawSignature(signature=bytes.fromhex(sent["signature"]))
        assert verify_evidence(key, evidence, message) == 0


def test_a_key_of_another_curve_signs_nothing(
    api: Api, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bob.pem"
    foreign = ec.generate_private_key(ec.SECP256K1())
    path.write_bytes(foreign.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    (tmp_path / "token").write_text("sk_test")
    assert main([*options(api, path), "--yes", "wdr_1"]) == 2
    assert "neither an Ed25519 nor a P-256 key" in capsys.readouterr().err
    assert api.decisions == []
