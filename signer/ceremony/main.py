"""Key ceremonies, offline: `custody keys ceremony STEP`, or `python -m signer.ceremony.main STEP` where only the signer is.

Not the signer: it holds secrets in memory, which the signer never does. Run it on a machine that has no network and no swap, and
is switched off afterwards. PINs come from files or file descriptors, shares and keys from files; nothing secret is an argument.
"""

import argparse
import getpass
import hashlib
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from signer.ceremony.fault import CeremonyFault
from signer.ceremony.shares import KeyName, read_share
from signer.ceremony.steps import Room, begin, make_separate_keys, make_shared_key, restore
from signer.ceremony.tokens import open_tokens
from signer.ceremony.transcript import Transcript, Witnessed, read_transcript, witness
from signer.config import PinDescriptor, PinFile
from signer.process import harden
from signer.refusal import HsmFault, StartupFault


def main(argv: Sequence[str]) -> int:
    """Carry out one step; 0 when done, 1 when a transcript does not hold, 2 when the step could not be done."""
    parser = argparse.ArgumentParser(prog="python -m signer.ceremony.main", description=__doc__)
    add_steps(parser)
    chosen = parser.parse_args(argv)
    return int(chosen.run(chosen))


def add_steps(parser: argparse.ArgumentParser) -> None:
    """Mount the steps; each sets `run`, which takes the parsed arguments and returns an exit code."""
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    made = steps.add_parser("make", help="make a key and its shares, or a key of its own in each token")
    made.add_argument(
        "kind",
        choices=("wrapping", "ed25519", "separate"),
        help="wrapping: the key under which deposit keys are kept; ed25519: a signing key with a backup; "
        "separate: an Ed25519 key born in each token, without backup, for on-chain multisig",
    )
    made.add_argument("--label", default="ceremony", help="name of the key in the tokens")
    made.add_argument(
        "--custodian",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="X25519 public key, PEM; one per share",
    )
    made.add_argument(
        "--threshold", type=int, default=0, metavar="K", help="how many shares make the key again"
    )
    made.add_argument("--out", type=Path, metavar="FOLDER", help="where the sealed shares go")
    _add_room(made)
    made.set_defaults(run=partial(_carry_out, _make))
    restored = steps.add_parser("restore", help="bring a key back from its shares into other tokens")
    restored.add_argument(
        "--share",
        action="append",
        default=[],
        metavar="FILE=KEYFILE",
        help="a share and its custodian's private key, PEM",
    )
    _add_room(restored)
    restored.set_defaults(run=partial(_carry_out, _restore))
    signed = steps.add_parser("witness", help="sign a closed transcript")
    signed.add_argument("transcript", type=Path)
    signed.add_argument("--name", required=True, help="the witness, as the ceremony began with")
    signed.add_argument("--key", type=Path, required=True, metavar="FILE", help="Ed25519 private key, PEM")
    signed.set_defaults(run=partial(_carry_out, _witness))
    verified = steps.add_parser("verify", help="check a transcript and who has signed it")
    verified.add_argument("transcript", type=Path)
    verified.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="whose key you know: Ed25519 public key, PEM",
    )
    verified.set_defaults(run=partial(_carry_out, _verify))


def _carry_out(step: Callable[[argparse.Namespace], int], chosen: argparse.Namespace) -> int:
    try:
        harden()
        return step(chosen)
    except (CeremonyFault, StartupFault, HsmFault) as fault:
        print(f"ceremony: {fault}", file=sys.stderr)
        return 2


def _add_room(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--module", type=Path, required=True, help="the PKCS#11 module")
    parser.add_argument("--module-sha256", default="", metavar="HEX", help="what the module's hash must be")
    parser.add_argument(
        "--token",
        action="append",
        required=True,
        metavar="LABEL=PIN",
        help="PIN: a file, or fd:N for an open descriptor",
    )
    parser.add_argument(
        "--witness", action="append", default=[], metavar="NAME=FILE", help="Ed25519 public key, PEM"
    )
    parser.add_argument("--transcript", type=Path, required=True, metavar="FILE", help="a new file")


def _make(chosen: argparse.Namespace) -> int:
    custodians = {name: _x25519_public(path) for name, path in _named(chosen.custodian, "--custodian")}
    if chosen.kind == "separate":
        if custodians or chosen.threshold or chosen.out:
            raise CeremonyFault("keys of their own in each token have no shares, so no custodians either")
        room = _open_room(chosen)
        begin(room, "separate keys")
        _show(make_separate_keys(room, chosen.label))
        return _close(room)
    if chosen.out is None or not chosen.out.is_dir():
        raise CeremonyFault("--out must be a folder for the sealed shares")
    if not 2 <= chosen.threshold <= len(custodians):
        raise CeremonyFault("--threshold must be at least 2 and at most the number of custodians")
    room = _open_room(chosen)
    begin(room, f"make {chosen.kind}")
    _show([make_shared_key(room, chosen.kind, chosen.label, custodians, chosen.threshold, chosen.out)])
    return _close(room)


def _restore(chosen: argparse.Namespace) -> int:
    shares = [(read_share(Path(name)), _x25519_private(key)) for name, key in _named(chosen.share, "--share")]
    room = _open_room(chosen)
    begin(room, "restore")
    _show([restore(room, shares)])
    return _close(room)


def _witness(chosen: argparse.Namespace) -> int:
    key = _load_private(chosen.key)
    if not isinstance(key, Ed25519PrivateKey):
        raise CeremonyFault(f"{chosen.key} is not an Ed25519 key")
    head = witness(chosen.transcript, chosen.name, key, _now)
    print(f"{chosen.name} has signed {head.hex()}")
    return 0


def _verify(chosen: argparse.Namespace) -> int:
    known = {name: _ed25519_public(path) for name, path in _named(chosen.witness, "--witness")}
    try:
        read = read_transcript(chosen.transcript)
    except CeremonyFault as fault:
        print(f"does not hold: {fault}")
        return 1
    for line in read.lines:
        print(f"{line.n:3} {line.at} {line.event}")
    print(f"head {read.head.hex()}")
    missing = _missing(read, known)
    for name, public_key in read.witnesses.items():
        state = "signed" if name in read.signed else "HAS NOT SIGNED"
        print(f"witness {name} {public_key.hex()} {state}")
    for sentence in missing:
        print(f"does not hold: {sentence}")
    return 1 if missing else 0


def _missing(read: Witnessed, known: dict[str, Ed25519PublicKey]) -> list[str]:
    """What keeps the transcript from being believed."""
    absent = [f"{name} has not signed" for name in read.witnesses if name not in read.signed]
    foreign = [
        f"{name} is no witness with the key that you know"
        for name, key in known.items()
        if read.witnesses.get(name) != key.public_bytes_raw()
    ]
    return absent + foreign


def _open_room(chosen: argparse.Namespace) -> Room:
    witnesses = {name: _ed25519_public(path) for name, path in _named(chosen.witness, "--witness")}
    sources = [(label, _pin_source(pin)) for label, pin in _named(chosen.token, "--token")]
    # The file first: a ceremony that cannot be written down must not begin.
    transcript = Transcript(chosen.transcript, _now)
    tokens = open_tokens(chosen.module, chosen.module_sha256, sources)
    digest = hashlib.sha256(chosen.module.read_bytes()).hexdigest()
    return Room(tokens=tokens, module_sha256=digest, witnesses=witnesses, transcript=transcript)


def _close(room: Room) -> int:
    print(f"head {room.transcript.close().hex()}")
    print("each witness signs it now: ceremony witness TRANSCRIPT --name NAME --key FILE")
    return 0


def _show(keys: Sequence[KeyName]) -> None:
    for key in keys:
        what = "fingerprint" if key.kind == "wrapping" else "public key"
        print(f"{key.kind} key {key.key_id}, {what} {key.check}")


def _named(values: Sequence[str], option: str) -> list[tuple[str, str]]:
    """NAME=VALUE pairs, each name once."""
    pairs = [value.partition("=") for value in values]
    if any(not name or not value for name, _, value in pairs):
        raise CeremonyFault(f"{option} takes NAME=VALUE")
    if len({name for name, _, _ in pairs}) != len(pairs):
        raise CeremonyFault(f"{option} names somebody twice")
    return [(name, value) for name, _, value in pairs]


def _pin_source(text: str) -> PinFile | PinDescriptor:
    if text.startswith("fd:"):
        if not text[3:].isdecimal():
            raise CeremonyFault("a PIN's file descriptor is written fd:N")
        return PinDescriptor(number=int(text[3:]))
    return PinFile(path=Path(text))


def _x25519_public(path: str) -> X25519PublicKey:
    key = _load_public(path)
    if not isinstance(key, X25519PublicKey):
        raise CeremonyFault(f"{path} is not an X25519 public key")
    return key


def _ed25519_public(path: str) -> Ed25519PublicKey:
    key = _load_public(path)
    if not isinstance(key, Ed25519PublicKey):
        raise CeremonyFault(f"{path} is not an Ed25519 public key")
    return key


def _x25519_private(path: str) -> X25519PrivateKey:
    key = _load_private(Path(path))
    if not isinstance(key, X25519PrivateKey):
        raise CeremonyFault(f"{path} is not an X25519 key")
    return key


def _load_public(path: str) -> object:
    try:
        return load_pem_public_key(Path(path).read_bytes())
    except OSError as error:
        raise CeremonyFault(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise CeremonyFault(f"{path} is not a public key in PEM") from error


def _load_private(path: Path) -> object:
    """The key in a PEM file; asks for its passphrase when it has one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CeremonyFault(f"{path} cannot be read: {error.strerror}") from error
    passphrase = getpass.getpass(f"passphrase of {path}: ").encode() if b"ENCRYPTED" in data else None
    try:
        return load_pem_private_key(data, password=passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise CeremonyFault(f"{path} is not a private key in PEM, or its passphrase is another") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
