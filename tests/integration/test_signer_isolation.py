"""What another process on the signer's machine can learn of it, and what its start demands of the place it runs in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from signer.protocol.messages import CreateKey, KeyView, Refused
from tests.fakes.signer_people import make_policy
from tests.integration.signer_harness import ROOT, SignerProcess
from tests.softhsm import MODULE, PIN

pytestmark = [
    pytest.mark.stack,
    pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2"),
]
WRAPPED = CreateKey(
    request_id="w", org="acme", vault="deposit", curve="secp256k1", label="one", storage="wrapped"
)


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[SignerProcess]:
    made = SignerProcess(tmp_path)
    made.prepare(make_policy())
    yield made
    made.kill()


def use_credential(signer: SignerProcess, mode: int) -> Path:
    """The PIN as systemd hands it over: a file in a directory that the environment names."""
    directory = signer.directory / "credentials"
    directory.mkdir()
    credential = directory / "token-pin"
    shutil.copy(signer.directory / "pin", credential)
    (signer.directory / "pin").unlink()
    credential.chmod(mode)
    config = signer.directory / "signer.toml"
    plain = f'pin_file = "{signer.directory}/pin"'
    config.write_text(config.read_text().replace(plain, 'pin_credential = "token-pin"'))
    signer.environment["CREDENTIALS_DIRECTORY"] = str(directory)
    return credential


READ_AS_A_NEIGHBOUR = """
import sys
for path in ("environ", "maps", "mem"):
    try:
        with open(f"/proc/{sys.argv[1]}/{path}", "rb") as stream:
            print(path, "open")
    except PermissionError:
        print(path, "refused")
"""


def without_capabilities() -> list[str]:
    """The command that takes root's capabilities from what follows it: they alone would keep a plain neighbour out."""
    return ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.getuid() == 0 else []


def read_as_a_neighbour(pid: int) -> list[str]:
    """What a process of the same user without a capability can open of this one."""
    plain = [sys.executable, "-c", READ_AS_A_NEIGHBOUR, str(pid)]
    done = subprocess.run([*without_capabilities(), *plain], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_a_neighbour_of_the_same_user_reads_none_of_its_memory(signer: SignerProcess) -> None:
    signer.prefix = without_capabilities()
    signer.start()
    assert signer.process is not None
    with subprocess.Popen([*without_capabilities(), "sleep", "60"]) as open_one:
        try:
            # The same question about a process that does not protect itself, so that a refusal says something.
            while Path(f"/proc/{open_one.pid}/comm").read_text() != "sleep\n":
                os.sched_yield()
            assert "environ open" in read_as_a_neighbour(open_one.pid)
        finally:
            open_one.kill()
    assert read_as_a_neighbour(signer.process.pid) == ["environ refused", "maps refused", "mem refused"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_it_can_gain_no_privileges(signer: SignerProcess) -> None:
    signer.start()
    assert signer.process is not None
    status = Path(f"/proc/{signer.process.pid}/status").read_text()
    assert "NoNewPrivs:\t1" in status.splitlines()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_the_pin_is_in_no_place_that_others_read(signer: SignerProcess) -> None:
    use_credential(signer, 0o400)
    signer.start()
    assert signer.process is not None
    signer.ask(WRAPPED)
    proc = Path("/proc") / str(signer.process.pid)
    secret = PIN.encode()
    if os.getuid() == 0:  # nobody else may look
        assert b"SOFTHSM2_CONF" in (proc / "environ").read_bytes()
        assert secret not in (proc / "environ").read_bytes()
    assert secret not in (proc / "cmdline").read_bytes()
    assert secret not in signer.journal.read_bytes()
    assert "signer.ready" in signer.log
    assert PIN not in signer.log


def test_a_traceback_does_not_show_the_pin(signer: SignerProcess) -> None:
    """A defect just where the PIN is at hand."""
    code = (
        "import sys, signer.main as m; m.SessionPool = lambda token, pin, size: 1 / 0; m.main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", code, "--config", str(signer.directory / "signer.toml")],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(signer.directory / "softhsm2.conf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ZeroDivisionError" in done.stderr
    assert PIN not in done.stderr + done.stdout


@pytest.mark.parametrize("mode", [0o400, 0o440])
def test_the_pin_can_be_a_credential_of_the_service_manager(signer: SignerProcess, mode: int) -> None:
    """With an ACL for the service's user, systemd's file shows the ACL's mask where the group's bits are: 0440."""
    use_credential(signer, mode)
    signer.start()
    assert signer.stop() == 0


def test_a_credential_that_is_not_there_is_named(signer: SignerProcess) -> None:
    credential = use_credential(signer, 0o444)
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "token-pin" in said
    credential.unlink()
    assert "cannot be read" in signer.refuse_to_start()[1]
    signer.environment.clear()
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "LoadCredential" in said


def test_wrapped_keys_without_their_wrapping_key_keep_it_from_starting(signer: SignerProcess) -> None:
    """The same journal on another token: its keys could not sign, and nobody should find that out by a withdrawal."""
    signer.start()
    signer.ask(replace(WRAPPED, request_id="t", storage="token"))
    before = objects_of(signer)
    made = signer.ask(WRAPPED)
    assert isinstance(made, KeyView)
    assert (made.storage, made.origin) == ("wrapped", "born")
    after = objects_of(signer)
    assert signer.ask(WRAPPED) == made
    signer.stop()
    signer.start()
    assert signer.ask(WRAPPED) == made
    signer.ask(replace(WRAPPED, request_id="v"))
    signer.stop()
    # By PKCS#11 nobody can destroy it; with the token's files in hand one can. Both places of the anchor stood there before, so
    # the one new object is the wrapping key.
    (wrapping_key,) = (after & objects_of(signer)) - before
    wrapping_key.unlink()
    code, said = signer.refuse_to_start()
    assert code == 2
    assert "wrapped keys" in said


def objects_of(signer: SignerProcess) -> set[Path]:
    return set((signer.directory / "tokens").rglob("*.object"))


def test_an_ed25519_key_cannot_be_wrapped_and_says_so(signer: SignerProcess) -> None:
    signer.start()
    asked = CreateKey(
        request_id="e", org="acme", vault="deposit", curve="ed25519", label="one", storage="wrapped"
    )
    answer = signer.ask(asked)
    assert isinstance(answer, Refused)
    assert answer.code == "cannot_wrap"
