"""Key ceremonies from end to end: the command, real SoftHSM tokens, and signers that use what came out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from eth_account import Account

from signer.facts import WrappedKeyCreated, load_fact
from signer.protocol.key_backup import AdmitKey
from signer.protocol.messages import CreateKey, KeyView, PublicKey, Refused, Signed
from tests.fakes.signer_people import bind_evm, bind_stellar, make_payment, make_transfer
from tests.integration.ceremony_room import PASSPHRASE, WITNESSES, Room, assert_no_secret_on_disk, make_room
from tests.integration.signer_harness import ROOT, SignerProcess
from tests.softhsm import MODULE, PIN

pytestmark = [pytest.mark.stack, pytest.mark.skipif(not MODULE.exists(), reason="needs softhsm2")]


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = make_room(tmp_path)
    yield made
    for signer in made.signers:
        signer.kill()


def key_of(answer: object) -> KeyView:
    assert isinstance(answer, KeyView), answer
    return answer


def make_deposit_key(signer: SignerProcess, number: int) -> KeyView:
    return key_of(
        signer.ask(
            CreateKey(
                request_id=f"d{number}", org="acme", vault="hot", curve="secp256k1", label=f"d{number}", storage="wrapped"
            )
        )
    )  # fmt: skip


def check_signs(signer: SignerProcess, key: KeyView, nonce: int) -> None:
    answer = signer.sign(make_transfer(key, int(time.time())), bind_evm(nonce), "alice", "bob")
    assert isinstance(answer, Signed)
    assert Account.recover_transaction(answer.tx) == key.address


def test_wrapped_keys_sign_on_a_second_token_after_the_first_is_lost(room: Room) -> None:
    _, fingerprint, out, transcript = room.make("wrapping", "custody")
    lines = [json.loads(line) for line in transcript.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "begun",
        "key_made",
        "imported",
        *["share_sealed"] * 3,
        "closed",
    ]
    assert lines[2]["fields"]["attributes"] == {
        "SENSITIVE": True, "EXTRACTABLE": False, "LOCAL": False, "ALWAYS_SENSITIVE": False, "NEVER_EXTRACTABLE": False,
    }  # fmt: skip

    first = room.signer("custody", fingerprint)
    first.start()
    keys = [make_deposit_key(first, number) for number in range(3)]
    check_signs(first, keys[0], 0)
    backup = room.folder / "backup.jsonl"
    saved = room.run(
        "keys", "backup", "--socket", first.directory / "s.sock", "--tenant", "1", "--out", backup
    )
    assert saved.returncode == 0, saved.stderr
    assert saved.stdout.startswith("0 wrapped keys")  # the keys are of another organisation
    first.stop()

    # The other token gets the wrapping key from two of three custodians, one of whom has a passphrase.
    again = room.transcript()
    restored = room.run(
        "keys", "ceremony", "restore", *room.shares(out, "ann", "cy"), *room.place(again, "second"), said=PASSPHRASE + "\n"
    )  # fmt: skip
    assert restored.returncode == 0, restored.stderr
    assert fingerprint in restored.stdout
    second = room.signer("second", fingerprint)
    second.start()
    for key, blob in zip(keys, wrapped_in(first), strict=True):
        asked = AdmitKey(
            request_id=f"a{key.key_id}", key_id=key.key_id, org="acme", vault="hot", curve="secp256k1",
            label=key.label, public_key=bytes.fromhex(key.public_key), blob=blob,
        )  # fmt: skip
        back = key_of(second.ask(asked))
        assert (back.address, back.origin) == (key.address, "ceremony")
        assert key_of(second.ask(asked)) == back
    check_signs(second, keys[0], 1)
    check_signs(second, keys[2], 0)
    assert second.stop() == 0


def wrapped_in(signer: SignerProcess) -> list[bytes]:
    """The wrapped bytes in a signer's journal, oldest first."""
    lines = signer.journal.read_bytes().splitlines()
    facts = [load_fact(fact.split(b" ", 1)[1]) for line in lines for fact in line.split(b"\t")[2:]]
    return [fact.blob for fact in facts if isinstance(fact, WrappedKeyCreated)]


def test_the_operators_command_takes_a_backup_to_another_signer(room: Room) -> None:
    _, fingerprint, _, _ = room.make("wrapping")
    first, second = room.signer("custody", fingerprint), room.signer("second", fingerprint)
    first.start()
    words = [
        "keys",
        "create",
        "--tenant",
        "1",
        "--vault",
        "deposit",
        "--curve",
        "secp256k1",
        "--storage",
        "wrapped",
    ]
    request = "1b4e28ba-2fa1-41d2-883f-0016d3cca427"
    for label in ("one", "two"):
        made = room.run(*words, "--label", label, "--socket", first.directory / "s.sock")
        assert made.returncode == 0, made.stderr
    named = [*words, "--label", "three", "--request-id", request, "--socket", str(first.directory / "s.sock")]
    assert room.run(*named).stdout == room.run(*named).stdout
    listed = room.run("keys", "list", "--tenant", "1", "--json", "--socket", first.directory / "s.sock")
    keys = json.loads(listed.stdout)
    assert [(key["label"], key["storage"], key["origin"]) for key in keys] == [
        ("one", "wrapped", "born"), ("two", "wrapped", "born"), ("three", "wrapped", "born"),
    ]  # fmt: skip
    table = room.run("keys", "list", "--tenant", "1", "--socket", first.directory / "s.sock").stdout
    assert all(key["account"] in table for key in keys)
    assert "3 keys" in table
    shown = room.run("keys", "show", keys[0]["key_id"], "--socket", first.directory / "s.sock")
    assert keys[0]["account"] in shown.stdout
    unknown = room.run("keys", "show", "00" * 16, "--socket", first.directory / "s.sock")
    assert unknown.returncode == 2
    backup = room.folder / "backup.jsonl"
    saved = room.run(
        "keys", "backup", "--socket", first.directory / "s.sock", "--tenant", "1", "--out", backup
    )
    assert saved.stdout.startswith("3 wrapped keys"), saved.stderr
    first.stop()

    second.start()
    for _ in range(2):
        back = room.run("keys", "restore", "--socket", second.directory / "s.sock", "--tenant", "1", backup)
        assert back.returncode == 0, back.stderr
    there = room.run("keys", "list", "--tenant", "1", "--json", "--socket", second.directory / "s.sock")
    assert [(key["account"], key["origin"]) for key in json.loads(there.stdout)] == [
        (key["account"], "ceremony") for key in keys
    ]
    # A byte of a blob that somebody changed, and a file that is none.
    text = backup.read_text()
    blob = json.loads(text.splitlines()[1])["blob"]
    changed = json.loads(text.splitlines()[1]) | {
        "key_id": "11" * 16,
        "blob": blob[:-2] + f"{int(blob[-2:], 16) ^ 1:02x}",
    }
    (room.folder / "changed").write_text(text.splitlines()[0] + "\n" + json.dumps(changed) + "\n")
    (room.folder / "none").write_text("{}\n")
    for name, code in (("changed", "key_fault"), ("none", "no_backup"), ("absent", "")):
        done = room.run(
            "keys", "restore", "--socket", second.directory / "s.sock", "--tenant", "1", room.folder / name
        )
        assert done.returncode == 2
        assert code in done.stderr
        assert "Traceback" not in done.stderr
    second.stop()


def test_a_signer_uses_a_ceremonys_keys_only_when_it_names_them(room: Room) -> None:
    _, fingerprint, _, _ = room.make("wrapping", "custody")
    key_id, public_key, _, _ = room.make("ed25519", "custody")
    signer = room.signer("custody")
    admit = AdmitKey(
        request_id="a", key_id=key_id, org="acme", vault="hot", curve="ed25519", label="cold",
        public_key=bytes.fromhex(public_key), blob=b"",
    )  # fmt: skip
    asked = CreateKey(
        request_id="d", org="acme", vault="hot", curve="secp256k1", label="d", storage="wrapped"
    )
    signer.start()
    for request in (admit, asked):
        answer = signer.ask(request)
        assert isinstance(answer, Refused)
        assert answer.code == "key_fault"
    assert "names no such ceremony key" in signer.log
    signer.stop()
    signer.ceremony_keys = [fingerprint, public_key]
    signer.write_config()
    signer.start()
    cold = key_of(signer.ask(admit))
    assert (cold.storage, cold.origin) == ("token", "ceremony")
    assert key_of(signer.ask(PublicKey(key_id=key_id))) == cold
    assert b"ceremony" in signer.journal.read_bytes()
    intent = make_payment(cold, int(time.time()))
    assert isinstance(signer.sign(intent, bind_stellar(intent, 1), "alice", "bob"), Signed)
    assert make_deposit_key(signer, 1).origin == "born"
    for changes in ({"public_key": bytes(32)}, {"label": "other"}, {"key_id": "00" * 16, "request_id": "b"}):
        answer = signer.ask(AdmitKey(**{**asdict_of(admit), **changes}))
        assert isinstance(answer, Refused), changes
    signer.stop()
    # Named no more, it signs no more.
    signer.ceremony_keys = [fingerprint]
    signer.write_config()
    signer.start()
    intent = make_payment(cold, int(time.time()))
    answer = signer.sign(intent, bind_stellar(intent, 2), "alice", "bob")
    assert isinstance(answer, Refused)
    assert answer.code == "key_fault"
    signer.stop()


def asdict_of(request: AdmitKey) -> dict[str, object]:
    return {name: getattr(request, name) for name in AdmitKey.__dataclass_fields__}


def test_an_ed25519_key_signs_the_same_in_every_token_of_its_ceremony(room: Room) -> None:
    key_id, public_key, out, _ = room.make("ed25519")
    transactions = set()
    now = int(time.time())
    for token in ("custody", "second"):
        signer = room.signer(token, public_key)
        signer.start()
        key = key_of(
            signer.ask(
                AdmitKey(
                    request_id="a", key_id=key_id, org="acme", vault="hot", curve="ed25519", label="cold",
                    public_key=bytes.fromhex(public_key), blob=b"",
                )
            )
        )  # fmt: skip
        intent = make_payment(key, now)
        answer = signer.sign(intent, bind_stellar(intent, 1), "alice", "bob")
        assert isinstance(answer, Signed)
        transactions.add(answer.tx)
        signer.stop()
    assert len(transactions) == 1
    assert_no_secret_on_disk(room, out)


def test_separate_keys_are_born_inside_and_need_no_permission(room: Room) -> None:
    transcript = room.transcript()
    done = room.run("keys", "ceremony", "make", "separate", "--label", "cold", *room.place(transcript))
    assert done.returncode == 0, done.stderr
    lines = [line.replace(",", "").split() for line in done.stdout.splitlines() if "public key" in line]
    assert len({line[-1] for line in lines}) == 2
    signer = room.signer("second")
    signer.start()
    admitted = room.run(
        "keys", "admit", "--tenant", "1", "--vault", "cold", "--curve", "ed25519", "--label", "cold",
        "--key-id", lines[1][2], "--public-key", lines[1][-1], "--socket", signer.directory / "s.sock",
    )  # fmt: skip
    assert admitted.returncode == 0, admitted.stderr
    assert "born" in admitted.stdout
    signer.stop()
    shared = room.run(
        "keys", "ceremony", "make", "separate", *room.custodians(), *room.place(room.transcript())
    )
    assert shared.returncode == 2
    assert "no shares" in shared.stderr


def test_a_transcript_is_signed_by_its_witnesses_and_verified(room: Room) -> None:
    _, _, _, transcript = room.make("wrapping", "custody")
    verify = ["keys", "ceremony", "verify", transcript]
    assert room.run(*verify).returncode == 1
    for name in WITNESSES:
        done = room.run(
            "keys", "ceremony", "witness", transcript, "--name", name, "--key", room.folder / f"{name}.key"
        )
        assert done.returncode == 0, done.stderr
    known = ["--witness", f"wim={room.folder}/wim.pub"]
    done = room.run(*verify, *known)
    assert done.returncode == 0, done.stdout
    mounted = [sys.executable, "-m", "cli.main", *map(str, verify), *known]
    assert subprocess.run(mounted, cwd=ROOT, capture_output=True, text=True, check=True).stdout == done.stdout
    assert done.stdout.count(" signed") == 2
    foreign = room.run(*verify, "--witness", f"wim={room.folder}/zed.pub")
    assert foreign.returncode == 1
    stranger = room.run(
        "keys", "ceremony", "witness", transcript, "--name", "zed", "--key", room.folder / "zed.key"
    )
    assert stranger.returncode == 2
    transcript.write_text(transcript.read_text().replace('"threshold":2', '"threshold":1'))
    changed = room.run(*verify)
    assert changed.returncode == 1
    assert "does not hold" in changed.stdout


def test_a_restore_says_why_it_cannot_be_done(room: Room) -> None:
    _, _, out, _ = room.make("wrapping", "custody")
    _, _, other, _ = room.make("ed25519", "custody")
    mixed = room.folder / "mixed.json"
    shutil.copy(next(out.glob("*-bea.json")), mixed)
    mixed.write_text(mixed.read_text().replace('"threshold": 2', '"threshold": 3'))
    ann, bea = room.shares(out, "ann"), room.shares(out, "bea")
    cases = {
        "2 shares are needed": ann,
        "given twice": [*ann, "--share", f"{room.folder}/copy.json={room.folder}/ann.key"],
        "not that of the custodian": [*ann, "--share", bea[1].replace("bea.key", "ann.key")],
        "different keys": [*ann, *room.shares(other, "bea")],
        "different keys or ceremonies": [*ann, "--share", f"{mixed}={room.folder}/bea.key"],
    }
    shutil.copy(next(out.glob("*-ann.json")), room.folder / "copy.json")
    for sentence, shares in cases.items():
        done = room.run("keys", "ceremony", "restore", *shares, *room.place(room.transcript(), "second"))
        assert done.returncode == 2
        assert sentence in done.stderr
    there = room.run("keys", "ceremony", "restore", *ann, *bea, *room.place(room.transcript(), "custody"))
    assert "has such a key already" in there.stderr
    # None of the refusals left anything in the other token.
    done = room.run("keys", "ceremony", "restore", *ann, *bea, *room.place(room.transcript(), "second"))
    assert done.returncode == 0, done.stderr


def test_pins_come_by_file_or_descriptor_and_are_shown_nowhere(room: Room) -> None:
    out = room.folder / "out"
    out.mkdir()
    options = [
        "keys", "ceremony", "make", "wrapping", *room.custodians(), "--out", out, "--module", MODULE,
        "--witness", f"wim={room.folder}/wim.pub", "--transcript",
    ]  # fmt: skip
    wrong = room.run(*options, room.transcript(), "--token", "custody=fd:0", said="1" + PIN)
    assert wrong.returncode == 2
    assert "refuses the PIN" in wrong.stderr
    done = room.run(*options, room.transcript(), "--token", "custody=fd:0", said=PIN)
    assert done.returncode == 0, done.stderr
    (room.folder / "pin").chmod(0o644)
    readable = room.run(*options, room.transcript(), "--token", f"second={room.folder}/pin")
    assert "chmod 600" in readable.stderr
    for text in (wrong.stderr, done.stdout, done.stderr, readable.stderr):
        assert PIN not in text
    alone = [word for word in options if not str(word).startswith("wim=") and word != "--witness"]
    unseen = room.run(*alone, room.transcript(), "--token", "second=fd:0", said=PIN)
    assert "needs a witness" in unseen.stderr


def test_a_ceremony_needs_only_the_signers_package(room: Room) -> None:
    island = room.folder / "island"
    shutil.copytree(ROOT / "signer", island / "signer", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "signer.ceremony.main",
            "make",
            "separate",
            *map(str, room.place(room.transcript())),
        ],
        cwd=island,
        env={"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(room.conf)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
