"""`custody policy` against a real signer on a real token: read, explain, propose, approve, submit; and what a restart keeps."""

import base64
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cli.main import main
from signer.protocol import canonical
from signer.protocol.messages import (
    CreateKey,
    GetPolicy,
    KeyView,
    Refused,
    Signed,
)
from signer.protocol.policy_messages import (
    PolicyView,
)
from tests.fakes.signer_people import (
    approve,
    approver_key,
    bind_evm,
    make_key_rule,
    make_policy,
    make_rule,
    make_transfer,
    policy_bytes,
    public_hex,
)
from tests.integration.signer_harness import MODULE, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]

STATES = make_rule("states", chain="secp256k1", kind="key_state", asset="none", amount_max="0", fee_max="0")
ALLOW = [make_rule("evm"), make_key_rule("secp256k1"), STATES]


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[SignerProcess]:
    made = SignerProcess(tmp_path)
    made.prepare(make_policy(allow=ALLOW))
    made.start()
    for name in ("alice", "bob", "carol"):
        key = tmp_path / f"{name}.key"
        key.write_text(approver_key(name).private_bytes_raw().hex())
        key.chmod(0o600)
    yield made
    made.kill()


def custody(signer: SignerProcess, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Run `custody policy`; file names are in the signer's directory. Returns exit code, output and complaints."""
    capsys.readouterr()
    code = main(["policy", *(word.replace("./", f"{signer.directory}/") for word in words)])
    said = capsys.readouterr()
    return code, said.out, said.err


def decide(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str], intent: str, name: str, *more: str
) -> str:
    """Let a person decide; returns the option that brings the decision."""
    code, approval, _ = custody(
        signer, capsys, "approve", "--intent", intent, "--key-file", f"./{name}.key", "--approver", name,
        "--approver-set-version", "1", "--yes", *more,
    )  # fmt: skip
    assert code == 0
    path = signer.directory / f"{name}.json"
    path.write_text(approval)
    return f"--approval=./{name}.json"


def _now() -> int:
    return int(time.time())


def key_of(signer: SignerProcess) -> KeyView:
    asked = CreateKey(request_id="one", org="acme", vault="hot", curve="secp256k1", label="one")
    key = signer.ask(asked)
    assert isinstance(key, KeyView)
    return key


def in_force(signer: SignerProcess) -> PolicyView:
    view = signer.ask(GetPolicy())
    assert isinstance(view, PolicyView)
    return view


def test_a_policy_is_changed_by_its_quorum_and_survives_a_restart(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    new = make_policy(version=2, allow=[make_rule("evm", amount_max="7"), *ALLOW[1:]])
    (signer.directory / "new.json").write_bytes(policy_bytes(new))
    at = ("--socket", "./s.sock")
    proposed = ("--document", "./new.json", "--initiator", "maker", "--out", "./change")
    code, shown, _ = custody(signer, capsys, "propose", *at, *proposed)
    assert code == 0
    assert [line[:2] for line in shown.splitlines()[:4]] == ["- ", "+ ", "- ", "+ "]
    assert "+ allow 1. evm" in shown
    assert "at most 7 atomic units" in shown
    alice = decide(signer, capsys, "./change", "alice", "--document", "./new.json")
    submit = ("submit", *at, "--intent", "./change", "--document", "./new.json", alice)
    code, _, said = custody(signer, capsys, *submit)
    assert (code, "quorum_missing" in said) == (2, True)
    assert in_force(signer).version == 1
    bob = decide(signer, capsys, "./change", "bob", "--document", "./new.json", "--current", "./policy.json")
    assert custody(signer, capsys, *submit, bob)[0] == 0
    assert "version 2 is in force" in custody(signer, capsys, "status", *at)[1]
    key = key_of(signer)
    assert signer.stop() == 0
    signer.start()
    assert in_force(signer).allow[0].amount_max == 7
    now = _now()
    old = make_transfer(key, now, amount=7)
    assert signer.sign(old, bind_evm(0), "alice", "bob") == Refused(
        code="wrong_policy_version", text="policy version 2 is in force"
    )
    assert isinstance(
        signer.sign(make_transfer(key, now, amount=7, policy_version=2), bind_evm(0), "alice", "bob"), Signed
    )
    (signer.directory / "policy.json").unlink()
    signer.stop()
    signer.start()
    assert in_force(signer).version == 2
    signer.stop()
    (signer.directory / "policy.json").write_bytes(policy_bytes(make_policy(version=3)))
    assert signer.refuse_to_start()[0] == 3


def test_a_change_that_waits_is_shown_and_vetoed(
    tmp_path: Path, signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = {"approvals": [{"group": "treasury", "threshold": 2}], "cool_down_s": 3600}
    at = ("--socket", "./s.sock")
    for version, document in ((2, make_policy(version=2, governance=slow)), (3, make_policy(version=3))):
        (tmp_path / f"{version}.json").write_bytes(policy_bytes(document))
        files = ("--document", f"./{version}.json")
        custody(signer, capsys, "propose", *at, *files, "--initiator", "maker", "--out", f"./{version}")
        votes = [decide(signer, capsys, f"./{version}", name, *files) for name in ("alice", "bob")]
        assert custody(signer, capsys, "submit", *at, "--intent", f"./{version}", *files, *votes)[0] == 0
    assert "version 3 waits until" in custody(signer, capsys, "status", *at)[1]
    signer.kill()
    signer.start()
    told = custody(signer, capsys, "explain", *at, "--intent", "./3", *votes)[1]
    assert "cooling down until" in told
    veto = decide(signer, capsys, "./3", "carol", "--document", "./3.json", "--reject")
    assert custody(signer, capsys, "submit", *at, "--intent", "./3", veto)[0] == 0
    assert "no change waits" in custody(signer, capsys, "status", *at)[1]
    assert in_force(signer).version == 2


def test_a_document_that_is_not_the_named_one_is_not_signed(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("new", "other"):
        document = make_policy(version=2, networks={"stellar:devnet": name})
        (signer.directory / f"{name}.json").write_bytes(policy_bytes(document))
    custody(
        signer, capsys, "propose", "--socket", "./s.sock", "--document", "./new.json", "--initiator", "maker",
        "--out", "./change",
    )  # fmt: skip
    code, printed, said = custody(
        signer, capsys, "approve", "--intent", "./change", "--document", "./other.json", "--key-file",
        "./alice.key", "--approver", "alice", "--approver-set-version", "1", "--yes",
    )  # fmt: skip
    assert (code, printed) == (2, "")
    assert "nothing was signed" in said


def test_explain_says_which_rule_decides_and_what_is_missing(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    key = key_of(signer)
    at = ("--socket", "./s.sock")
    (signer.directory / "intent").write_bytes(canonical.encode(make_transfer(key, _now())))
    code, told, _ = custody(signer, capsys, "explain", *at, "--intent", "./intent")
    assert code == 0
    assert "rule evm decides" in told
    assert "group treasury: nobody of 2 wanted, 2 missing" in told
    large = make_transfer(key, _now(), amount=10**25)
    (signer.directory / "intent").write_bytes(canonical.encode(large))
    code, told, _ = custody(signer, capsys, "explain", *at, "--intent", "./intent")
    assert (code, "rule evm comes nearest; in its way: over_amount_cap" in told) == (1, True)


def test_explain_takes_a_withdrawal_from_the_api_and_its_verdict_from_the_signer(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    data = canonical.encode(make_transfer(key_of(signer), _now()))
    given = [
        {
            "approver": one.approver,
            "public_key": one.public_key,
            "decision": one.decision,
            "signature": one.evidence.signature.hex(),
            "webauthn": None,
        }
        for one in approve(data, "alice")
    ]
    body = json.dumps({"intent": base64.b64encode(data).decode(), "decisions": given}).encode()
    (signer.directory / "token").write_text("secret")

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = (self.path, self.headers["Authorization"]) == ("/v1/approvals/wdr_1", "Bearer secret")
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        api = ("--api", f"http://127.0.0.1:{server.server_port}", "--token-file", "./token")
        at = ("--socket", "./s.sock")
        code, told, _ = custody(signer, capsys, "explain", "wdr_1", *at, *api)
        missing = custody(signer, capsys, "explain", "wdr_2", *at, *api)
        server.shutdown()
    assert (code, "group treasury: alice of 2 wanted, 1 missing" in told) == (0, True)
    assert (missing[0], "404" in missing[2]) == (2, True)


def test_a_key_is_suspended_by_people(signer: SignerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    key = key_of(signer)
    at = ("--socket", "./s.sock")
    code, told, _ = custody(
        signer, capsys, "propose-key-state", *at, "--key", key.key_id, "--state", "suspended", "--reason",
        "a drill", "--initiator", "maker", "--out", "./stop",
    )  # fmt: skip
    assert (code, f"{key.address}, is active" in told) == (0, True)
    votes = [decide(signer, capsys, "./stop", name) for name in ("alice", "bob")]
    code, told, _ = custody(signer, capsys, "submit", *at, "--intent", "./stop", *votes)
    assert (code, "is suspended" in told) == (0, True)
    signer.kill()
    signer.start()
    answer = signer.sign(make_transfer(key, _now()), bind_evm(0), "alice", "bob")
    assert isinstance(answer, Refused)
    assert answer.code == "key_not_active"


def test_show_prints_words_or_the_very_bytes(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ("--socket", "./s.sock")
    words = custody(signer, capsys, "show", *at)[1]
    assert f"approver alice of treasury, keys ed25519 {public_hex(approver_key('alice'))}" in words
    assert "asks NOBODY" in words
    assert custody(signer, capsys, "show", *at, "--raw")[1] == (signer.directory / "policy.json").read_text()
    assert custody(signer, capsys, "show", *at, "--version", "2")[0] == 2


def test_one_approver_stops_the_signer_and_the_quorum_ends_it(
    signer: SignerProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([word.replace("./", f"{signer.directory}/") for word in words])
        said = capsys.readouterr()
        return code, said.out, said.err

    key = key_of(signer)
    at = ("--signer", "./s.sock", "--org", "acme")
    order = ("--reason", "keys may be stolen", "--approver", "carol", "--key-file", "./carol.key", "--yes")
    slip = run("stop", "asset", "eip155:31337/USDC", *at, *order)
    assert (slip[0], slip[1]) == (2, "")
    assert run("stop", "vault", "warm", *at, *order)[2].endswith("unknown_key: the org has no key there\n")
    stranger = run("stop", "all", *at, *order[:3], "alice", *order[4:])
    assert "unknown_approver_key" in stranger[2]
    assert isinstance(signer.sign(make_transfer(key, _now()), bind_evm(0), "alice", "bob"), Signed)
    code, said, shown = run("stop", "chain", "eip155:31337", *at, *order)
    digest = said.split()[-1]
    assert (code, digest in shown) == (0, True)
    refused = signer.sign(make_transfer(key, _now()), bind_evm(1), "alice", "bob")
    assert isinstance(refused, Refused)
    assert refused.code == "stopped"
    listed = run("switches", *at)[1]
    assert (digest in listed, "keys may be stolen" in listed, "carol" in listed) == (True, True, True)
    wrote = run("resume", digest, *at, "--reason", "keys are new", "--initiator", "maker", "--out", "./end")
    assert wrote[0] == 0
    votes = [decide(signer, capsys, "./end", name) for name in ("alice", "bob")]
    submit = ("policy", "submit", "--socket", "./s.sock", "--intent", "./end")
    assert "quorum_missing" in run(*submit, votes[0])[2]
    assert run(*submit, *votes)[:2] == (0, f"the stop {digest} has ended\n")
    assert run("switches", *at)[1] == "0 stand in the signer\n"
    assert isinstance(signer.sign(make_transfer(key, _now()), bind_evm(1), "alice", "bob"), Signed)
