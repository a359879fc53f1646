"""A room for key ceremonies: two real tokens in one store, everybody's keys, and signers on what comes out."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from cli.main import main as custody
from signer.ceremony.shares import combine, open_seal, read_share
from tests.fakes.signer_people import make_policy
from tests.integration.signer_harness import ROOT, SignerProcess
from tests.softhsm import MODULE, PIN, init_token, write_configuration

CUSTODIANS = ("ann", "bea", "cy")
WITNESSES = ("wim", "xenia")
PASSPHRASE = "correct horse"
_NUMBERS = itertools.count(1)


@dataclass
class Room:
    """A folder with two tokens in one store, and everybody's keys."""

    folder: Path
    conf: Path
    signers: list[SignerProcess] = field(default_factory=list)

    def run(self, *words: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
        """`custody WORDS`, `said` on its standard input. A ceremony is a process of its own, as it has a module to load."""
        if words[:2] != ("keys", "ceremony"):
            return self.ask(*words)
        return subprocess.run(
            [sys.executable, "-m", "signer.ceremony.main", *map(str, words[2:])],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(self.conf), "HOME": str(self.folder)},
            input=said,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
            start_new_session=True,
        )

    @staticmethod
    def ask(*words: str | Path) -> subprocess.CompletedProcess[str]:
        """`custody WORDS` in this process."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = custody([str(word) for word in words])
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def transcript(self) -> Path:
        return self.folder / f"transcript-{next(_NUMBERS)}.jsonl"

    def place(self, transcript: Path, *tokens: str) -> list[str | Path]:
        """The options that every step with tokens has."""
        options: list[str | Path] = ["--module", MODULE, "--transcript", transcript]
        for token in tokens or ("custody", "second"):
            options += ["--token", f"{token}={self.folder}/pin"]
        for name in WITNESSES:
            options += ["--witness", f"{name}={self.folder}/{name}.pub"]
        return options

    def custodians(self, threshold: int = 2) -> list[str | Path]:
        options: list[str | Path] = ["--threshold", str(threshold)]
        for name in CUSTODIANS:
            options += ["--custodian", f"{name}={self.folder}/{name}.pub"]
        return options

    def make(self, kind: str, *tokens: str) -> tuple[str, str, Path, Path]:
        """Make a shared key; returns its id, what proves it, the folder of its shares and the transcript."""
        number = next(_NUMBERS)
        out, transcript = self.folder / f"shares-{number}", self.transcript()
        out.mkdir()
        done = self.run(
            "keys",
            "ceremony",
            "make",
            kind,
            *self.custodians(),
            "--out",
            out,
            *self.place(transcript, *tokens),
        )
        assert done.returncode == 0, done.stderr
        words = done.stdout.splitlines()[0].replace(",", "").split()
        return words[2], words[-1], out, transcript

    def shares(self, out: Path, *names: str) -> list[str]:
        options = []
        for name in names:
            (file,) = out.glob(f"*-{name}.json")
            options += ["--share", f"{file}={self.folder}/{name}.key"]
        return options

    def signer(self, token: str, *ceremony_keys: str) -> SignerProcess:
        """A signer of its own with an empty journal on one of the tokens, which hold no other signer's anchor yet."""
        directory = self.folder / f"signer-{next(_NUMBERS)}"
        directory.mkdir()
        made = SignerProcess(directory, ceremony_keys=list(ceremony_keys))
        made.environment["SOFTHSM2_CONF"] = str(self.conf)
        (directory / "journal").mkdir()
        made.write_pin(PIN)
        (directory / "policy.json").write_text(json.dumps(make_policy()))
        made.write_config(token=token)
        self.signers.append(made)
        return made


def make_room(folder: Path) -> Room:
    """Tokens, PIN file, custodians' and witnesses' keys."""
    conf = write_configuration(folder)
    for label in ("custody", "second"):
        init_token(conf, label)
    (folder / "pin").write_text(PIN + "\n")
    (folder / "pin").chmod(0o600)
    for name in CUSTODIANS:
        private = X25519PrivateKey.generate()
        locked = BestAvailableEncryption(PASSPHRASE.encode()) if name == "cy" else NoEncryption()
        write_pair(folder / name, private, locked)
    for name in (*WITNESSES, "zed"):
        write_pair(folder / name, Ed25519PrivateKey.generate(), NoEncryption())
    return Room(folder, conf)


def write_pair(
    path: Path,
    private: X25519PrivateKey | Ed25519PrivateKey,
    lock: BestAvailableEncryption | NoEncryption,
) -> None:
    path.with_suffix(".key").write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
    path.with_suffix(".pub").write_bytes(
        private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


def assert_no_secret_on_disk(room: Room, out: Path) -> None:
    """Make the secret again from its shares and look for it, and for each share, in every file that there is."""
    opened = []
    for name in ("ann", "bea"):
        (file,) = out.glob(f"*-{name}.json")
        share = read_share(file)
        opened.append((share.index, open_seal(share, load_key(room.folder / f"{name}.key"))))
    secrets = [combine(opened), *(part for _, part in opened)]
    files = [path for path in room.folder.rglob("*") if path.is_file()]
    assert any("tokens" in path.parts for path in files)
    for path in files:
        data = path.read_bytes()
        for secret in secrets:
            assert secret not in data
            assert secret.hex().encode() not in data


def load_key(path: Path) -> X25519PrivateKey:
    key = load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, X25519PrivateKey)
    return key
