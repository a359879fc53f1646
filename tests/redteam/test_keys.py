"""K: keys, PIN and token. Where it says so the red team even has the token's PIN, as a dishonest operator of the HSM would.

With the PIN it can sign by itself: that limit is docs/threat-model.md's. What it cannot do is take a key of ours away, or have
the signer use one that could be elsewhere too.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import rlp

from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList
from signer.protocol.messages import KeyView, Sign
from tests.architecture.sources import sources
from tests.fakes.signer_desk import approved
from tests.fakes.signer_people import bind_evm, make_transfer
from tests.integration.signer_harness import PIN, ROOT, SignerProcess, make_token
from tests.integration.test_signer_isolation import read_as_a_neighbour, without_capabilities
from tests.redteam.conftest import ProcessAttack
from tests.redteam.test_requests import ask_at_once
from tests.softhsm import MODULE

On = Callable[..., ProcessAttack]
QUORUM = ("alice", "bob")
SIGNATURES = 200


def transfer(key: KeyView, nonce: int = 0) -> Sign:
    return approved(make_transfer(key, int(time.time())), bind_evm(nonce), *QUORUM)


def admission(key_id: str, public_key: bytes, curve: str = "secp256k1", blob: bytes = b"") -> AdmitKey:
    return AdmitKey(
        request_id=str(uuid4()), key_id=key_id, org="acme", vault="hot", curve=curve, label="one",
        public_key=public_key, blob=blob,
    )  # fmt: skip


def insider(signer: SignerProcess, action: str, key_id: str) -> list[str]:
    """What somebody with token and PIN gets."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.redteam.insider", str(MODULE), PIN, action, key_id],
        cwd=ROOT,
        env={**os.environ, "SOFTHSM2_CONF": str(signer.directory / "softhsm2.conf")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def restart(signer: SignerProcess) -> None:
    signer.stop()
    signer.start()


# --- what is no key of ours -----------------------------------------------------------------------------------------------


def test_k1_a_key_that_was_imported_or_may_leave_is_registered(attack_on: On) -> None:
    attack = attack_on()
    leaving, imported = secrets.token_hex(16), secrets.token_hex(16)
    insider(attack.signer, "plant extractable", leaving)
    (public,) = insider(attack.signer, "plant imported", imported)
    attack.refuses("key_fault", admission(leaving, bytes(65)))
    attack.refuses("key_fault", admission(imported, bytes.fromhex(public), "ed25519"))
    attack.refuses("key_fault", admission(secrets.token_hex(16), bytes(65)))
    assert "EXTRACTABLE" in attack.signer.log
    assert "born inside" in attack.signer.log
    attack.refuses("unknown_key", transfer(replace(attack.makes_key(), key_id=leaving)))


def test_k2_a_key_is_read_copied_wrapped_or_made_extractable(attack_on: On) -> None:
    """By somebody with the PIN: not one attempt succeeds, and the key goes on signing."""
    attack = attack_on()
    key = attack.makes_key()
    said = insider(attack.signer, "change", key.key_id)
    assert len(said) == 16
    assert [line for line in said if line.endswith(": done")] == []
    for line in said:
        attack.notes(line.partition(": ")[2])
    attack.owes(attack.signer.ask(transfer(key)))


def test_k3_another_key_under_the_id_of_ours(attack_on: On) -> None:
    attack = attack_on()
    key, sound = attack.makes_key(), secrets.token_hex(16)
    insider(attack.signer, "plant sound", sound)
    attack.refuses("key_mismatch", admission(sound, bytes.fromhex(key.public_key)))
    attack.refuses("key_exists_different", admission(key.key_id, bytes(65)))
    insider(attack.signer, "plant sound", key.key_id)
    restart(attack.signer)
    attack.refuses("key_fault", transfer(key))
    assert "more than one" in attack.signer.log


def test_k7_keys_that_fail_keep_no_session_from_the_others(attack_on: On) -> None:
    """A failed operation can occupy a session for ever; there are two, and eight failures."""
    attack = attack_on()
    key, broken = attack.makes_key(), attack.makes_key(label="two")
    insider(attack.signer, "plant sound", broken.key_id)
    restart(attack.signer)
    for nonce in range(8):
        attack.refuses("key_fault", transfer(broken, nonce))
        attack.owes(attack.signer.ask(transfer(key, nonce)))


# --- what the process gives away --------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv of util-linux")
def test_k4_the_pin_in_the_environment_the_arguments_a_log_a_trace_or_a_core(attack_on: On) -> None:
    attack = attack_on()
    signer, key = attack.signer, attack.makes_key()
    insider(signer, "plant sound", key.key_id)
    signer.prefix = without_capabilities()
    restart(signer)
    attack.refuses("key_fault", transfer(key))
    attack.refuses_bytes("malformed_message", PIN.encode())
    assert signer.process is not None
    proc = Path("/proc") / str(signer.process.pid)
    assert read_as_a_neighbour(signer.process.pid) == ["environ refused", "maps refused", "mem refused"]
    attack.notes("refused by the kernel")
    (core,) = [line for line in (proc / "limits").read_text().splitlines() if line.startswith("Max core")]
    assert core.split()[4:6] == ["0", "0"]
    secret = PIN.encode()
    shown = [(proc / "cmdline").read_bytes(), signer.journal.read_bytes(), signer.log.encode()]
    if os.getuid() == 0:  # nobody else may look
        shown.append((proc / "environ").read_bytes())
    assert [secret in one for one in shown] == [False] * len(shown)
    signer.stop()
    signer.write_pin("161803398")
    attack.keeps_from_starting("PIN")
    assert "161803398" not in signer.log


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_k5_a_child_that_inherits_the_session(attack_on: On) -> None:
    """There is none: after the PIN was used no process has the signer as its parent, and no line of it starts one."""
    attack = attack_on()
    signer, key = attack.signer, attack.makes_key()
    assert signer.process is not None
    for nonce in range(8):
        attack.owes(attack.signer.ask(transfer(key, nonce)))
        assert children_of(signer.process.pid) == []
    assert signer.process.pid in children_of(os.getpid())
    attack.notes("no child")
    for one in sources("signer"):
        assert not {"subprocess", "multiprocessing", "pty"} & {name.partition(".")[0] for name in one.imports}
        assert not [word for word in ("fork(", "posix_spawn", "os.exec", "os.system") if word in one.text]


def children_of(pid: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            lines = status.read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        if f"PPid:\t{pid}" in lines:
            found.append(int(status.parent.name))
    return found


def test_k6_a_nonce_that_repeats_gives_the_key_away(attack_on: On) -> None:
    """A smoke test of the token's randomness, over threads and sessions: a broken source repeats itself or leans to one side."""
    attack = attack_on()
    key = attack.makes_key()
    answers = ask_at_once(attack.signer, [transfer(key, nonce) for nonce in range(SIGNATURES)])
    seen = [int.from_bytes(rlp.decode(attack.owes(answer).tx[1:])[-2], "big") for answer in answers]
    assert len(set(seen)) == SIGNATURES
    ones = sum(value.bit_count() for value in seen)
    # 51,200 fair coins: mean 25,600, deviation 113; eight deviations happen once in 10^15 runs.
    assert abs(ones - SIGNATURES * 128) < 8 * 113
    attack.notes("no nonce twice")


# --- other tokens and modules -------------------------------------------------------------------------------------------------


def test_k8_journal_and_backup_restored_into_a_rogue_token(
    attack_on: On, tmp_path_factory: pytest.TempPathFactory
) -> None:
    attack, rogue = attack_on(), attack_on()
    attack.makes_key(storage="wrapped")
    stolen = attack.signer.ask(ExportKeys(org="acme", start=0))
    assert isinstance(stolen, WrappedKeyList)
    (kept,) = stolen.keys
    rogue.makes_key(storage="wrapped")
    rogue.signer.stop()
    rogue.signer.ceremony_keys = [kept.wrapping_key.hex()]
    rogue.signer.write_config()
    rogue.signer.start()
    rogue.refuses("no_wrapping_key", admission(kept.key_id, kept.public_key, blob=kept.blob))
    attack.signer.stop()
    shutil.move(attack.signer.directory / "tokens", attack.signer.directory / "true")
    (attack.signer.directory / "softhsm2.conf").unlink()
    make_token(attack.signer.directory)
    attack.keeps_from_starting("journal")


def test_k9_another_module_in_the_place_of_the_pinned_one(attack_on: On) -> None:
    attack = attack_on()
    signer, path = attack.signer, attack.signer.directory / "module.so"
    true = MODULE.read_bytes()
    path.write_bytes(true)
    signer.stop()
    signer.write_config(module=str(path), pinned=hashlib.sha256(true).hexdigest())
    signer.start()
    signer.stop()
    path.write_bytes(true + b"\0")
    attack.keeps_from_starting("pinned")
    path.unlink()
    path.symlink_to(signer.directory / "policy.json")
    attack.keeps_from_starting("pinned")
    path.unlink()
    attack.keeps_from_starting("install")
