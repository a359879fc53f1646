"""A signer that must not start says why in one sentence; one that was killed goes on where it was."""

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from signer.audit.entries import read_entries
from signer.audit.inspection import inspect
from signer.protocol import canonical
from signer.protocol.messages import CreateKey, KeyView, Refused, Sign, Signed
from signer.protocol.wire import ConnectionEnded, MalformedMessage
from tests.fakes.signer_people import approve, bind_evm, make_policy, make_transfer, policy_bytes
from tests.integration.signer_harness import MODULE, PIN, ROOT, SignerProcess

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[SignerProcess]:
    made = SignerProcess(tmp_path)
    made.prepare(make_policy())
    yield made
    made.kill()


def use(signer: SignerProcess, times: int = 1) -> KeyView:
    """Run the signer for a few signatures, then stop it."""
    signer.start()
    key = signer.ask(CreateKey(request_id="one", org="acme", vault="hot", curve="secp256k1", label="one"))
    assert isinstance(key, KeyView)
    for nonce in range(times):
        assert isinstance(
            signer.sign(make_transfer(key, int(time.time())), bind_evm(nonce), "alice", "bob"), Signed
        )
    assert signer.stop() == 0
    return key


def test_a_missing_module_says_what_to_install(signer: SignerProcess) -> None:
    signer.write_config(module="/nonexistent/module.so")
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "install" in said


def test_a_file_that_is_no_module_is_named(signer: SignerProcess) -> None:
    signer.write_config(module=str(signer.directory / "policy.json"))
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "cannot be loaded" in said


def test_a_module_other_than_the_pinned_one_is_refused(signer: SignerProcess) -> None:
    signer.write_config(pinned="00" * 32)
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "pinned" in said


def test_a_missing_token_says_how_to_create_it(signer: SignerProcess) -> None:
    signer.write_config(token="other")
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "softhsm2-util" in said


def test_no_token_at_all_says_how_to_create_one(signer: SignerProcess) -> None:
    shutil.rmtree(signer.directory / "tokens")
    (signer.directory / "tokens").mkdir()
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "softhsm2-util" in said


def test_a_wrong_pin_is_tried_once_and_never_shown(signer: SignerProcess) -> None:
    signer.write_pin("161803398")
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "PIN" in said
    assert "161803398" not in signer.log


def test_a_pin_file_that_others_can_read_is_refused(signer: SignerProcess) -> None:
    (signer.directory / "pin").chmod(0o644)
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "chmod 600" in said
    (signer.directory / "pin").unlink()
    assert "cannot be read" in signer.refuse_to_start()[1]


def test_the_pin_can_come_by_descriptor(signer: SignerProcess) -> None:
    path = signer.directory / "signer.toml"
    path.write_text(path.read_text().replace(f'pin_file = "{signer.directory}/pin"', "pin_fd = 0"))
    process = subprocess.Popen(
        [sys.executable, "-m", "signer.main", "--config", str(path)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(signer.directory / "softhsm2.conf")},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(PIN.encode())
    process.stdin.close()
    assert b"signer.ready" in process.stderr.readline()
    process.terminate()
    assert process.wait(timeout=30) == 0
    process.stderr.close()


def test_missing_files_are_named(signer: SignerProcess) -> None:
    (signer.directory / "policy.json").unlink()
    assert "policy file" in signer.refuse_to_start()[1]
    (signer.directory / "signer.toml").unlink()
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "signer.toml" in said


def test_a_second_signer_on_the_same_place_does_not_start(signer: SignerProcess) -> None:
    signer.start()
    second = SignerProcess(signer.directory)
    code, said = second.refuse_to_start()
    assert code == 2
    assert "another signer" in said


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> SignerProcess:
    """A stopped signer with a journal of some length, and an older copy of that journal beside it."""
    made = SignerProcess(tmp_path_factory.mktemp("used"))
    made.prepare(make_policy())
    use(made)
    shutil.copy(made.journal, made.directory / "older")
    made.start()
    assert made.ask(CreateKey(request_id="two", org="acme", vault="hot", curve="ed25519", label="two"))
    made.stop()
    return made


@pytest.mark.parametrize("harm", ["older copy", "cut", "edited", "deleted", "policy"])
def test_what_was_rolled_back_or_changed_is_refused(used: SignerProcess, harm: str) -> None:
    whole, policy = used.journal.read_bytes(), (used.directory / "policy.json").read_bytes()
    spoiled = {
        "older copy": (used.directory / "older").read_bytes(),
        "cut": whole[: whole[:-1].rfind(b"\n") + 1],
        "edited": whole.replace(b"alice", b"carol", 1),
        "policy": whole,
    }
    if harm == "deleted":
        used.journal.unlink()
    else:
        used.journal.write_bytes(spoiled[harm])
    if harm == "policy":
        (used.directory / "policy.json").write_bytes(policy_bytes(make_policy(version=2)))
    try:
        code, said = used.refuse_to_start()
    finally:
        used.kill()
        used.journal.write_bytes(whole)
        (used.directory / "policy.json").write_bytes(policy)
    assert code == 3
    assert "refusing to start" in said


def test_a_token_that_was_rolled_back_is_refused(signer: SignerProcess) -> None:
    signer.start()
    shutil.copytree(signer.directory / "tokens", signer.directory / "old")
    for name in ("two", "three"):
        signer.ask(CreateKey(request_id=name, org="acme", vault="hot", curve="ed25519", label=name))
    signer.stop()
    shutil.rmtree(signer.directory / "tokens")
    shutil.move(signer.directory / "old", signer.directory / "tokens")
    assert signer.refuse_to_start()[0] == 3


def test_a_second_signer_on_a_copy_of_the_disk_stops_the_first(
    signer: SignerProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Nothing of the file system stands between the two; they meet in the token, as two machines with one HSM would."""
    signer.start()
    key = signer.ask(CreateKey(request_id="one", org="acme", vault="hot", curve="secp256k1", label="one"))
    assert isinstance(key, KeyView)
    other = SignerProcess(tmp_path_factory.mktemp("other"))
    shutil.copytree(signer.directory / "journal", other.directory / "journal")
    for name in ("softhsm2.conf", "policy.json"):
        shutil.copy(signer.directory / name, other.directory / name)
    other.write_pin(PIN)
    other.write_config()
    other.start()
    try:
        answer = signer.sign(make_transfer(key, int(time.time())), bind_evm(0), "alice", "bob")
        assert isinstance(answer, Refused)
        assert answer.code == "anchor_mismatch"
        assert isinstance(
            other.sign(make_transfer(key, int(time.time())), bind_evm(0), "alice", "bob"), Signed
        )
    finally:
        other.kill()
    signer.kill()
    assert signer.refuse_to_start()[0] == 3


@pytest.mark.parametrize("place", [0, 1])
def test_an_anchor_that_a_death_tore_is_made_anew(signer: SignerProcess, place: int) -> None:
    """SoftHSM empties an object's file before it writes it anew; a death between the two leaves it empty."""
    use(signer)
    files = sorted((signer.directory / "tokens").rglob("*.object"), key=lambda file: file.stat().st_mtime_ns)
    files[-1 - place].write_bytes(b"")
    signer.start()
    key = signer.ask(CreateKey(request_id="two", org="acme", vault="hot", curve="secp256k1", label="two"))
    assert isinstance(key, KeyView)
    assert isinstance(signer.sign(make_transfer(key, int(time.time())), bind_evm(0), "alice", "bob"), Signed)
    assert signer.stop() == 0
    signer.start()


def test_the_socket_of_a_killed_signer_is_replaced(signer: SignerProcess) -> None:
    signer.start()
    signer.kill()
    assert (signer.directory / "s.sock").exists()
    signer.start()
    signer.stop()
    assert not (signer.directory / "s.sock").exists()


def test_kill_9_at_random_moments_never_makes_a_second_transaction(signer: SignerProcess) -> None:
    """Each request is repeated until it is answered; whatever was answered before a kill must be answered again."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    signer.start()
    key = signer.ask(CreateKey(request_id="one", org="acme", vault="hot", curve="secp256k1", label="one"))
    assert isinstance(key, KeyView)
    answers: dict[int, tuple[Sign, Signed]] = {}
    for nonce in range(5):
        data = canonical.encode(make_transfer(key, int(time.time())))
        request = Sign(intent=data, approvals=approve(data, "alice", "bob"), binding=bind_evm(nonce))
        assert signer.process is not None
        killer = threading.Timer(chance.uniform(0, 0.03), signer.process.kill)
        killer.start()
        try:
            answer = signer.ask(request)
        except (OSError, ConnectionEnded, MalformedMessage):
            answer = None
        killer.join()
        signer.kill()
        signer.start()
        again = signer.ask(request)
        assert isinstance(again, Signed)
        assert answer in (None, again)
        answers[nonce] = (request, again)
    for request, answer in answers.values():
        assert signer.ask(request) == answer


def test_kill_9_under_load_never_makes_a_second_transaction(signer: SignerProcess) -> None:
    """Eight ask at once, so that the death falls into groups of facts."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    signer.write_config(connections=16)
    signer.start()
    key = signer.ask(CreateKey(request_id="one", org="acme", vault="hot", curve="secp256k1", label="one"))
    assert isinstance(key, KeyView)
    answers: dict[int, Signed] = {}
    requests = []
    for nonce in range(64):
        data = canonical.encode(make_transfer(key, int(time.time())))
        requests.append(Sign(intent=data, approvals=approve(data, "alice", "bob"), binding=bind_evm(nonce)))

    def ask(nonces: range) -> None:
        client = SignerProcess(signer.directory)
        with contextlib.suppress(OSError, ConnectionEnded, MalformedMessage):
            client.connect()
            for nonce in nonces:
                answer = client.ask(requests[nonce])
                assert isinstance(answer, Signed)
                assert answers.setdefault(nonce, answer) == answer
        client.hang_up()

    for _ in range(3):
        assert signer.process is not None
        killer = threading.Timer(chance.uniform(0, 0.1), signer.process.kill)
        callers = [threading.Thread(target=ask, args=(range(start, 64, 8),)) for start in range(8)]
        for thread in (killer, *callers):
            thread.start()
        for thread in (killer, *callers):
            thread.join()
        signer.kill()
        signer.start()
    ask(range(64))
    assert len(answers) == 64
    report = inspect(read_entries(signer.journal), [], keep=False)
    assert report.signatures == 64


def test_the_hsm_survives_threads_that_sign_and_churn_sessions(signer: SignerProcess) -> None:
    """Without CKF_OS_LOCKING_OK this ends in a segmentation fault within a second or two."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.signer_soak", str(MODULE), PIN],
        cwd=ROOT,
        env={**os.environ, "SOFTHSM2_CONF": str(signer.directory / "softhsm2.conf")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert ", 0 errors" in done.stdout, done.stderr
