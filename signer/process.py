"""What every process of this package that holds a PIN does first: close itself to the rest of the machine, then read it."""

import ctypes
import os
import resource
import stat
import sys
from pathlib import Path

from signer.config import PinCredential, PinDescriptor, PinFile
from signer.refusal import StartupFault

PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
PIN_MAX = 255


def harden() -> None:
    """Leave no memory behind: no core dumps, no debugger, no readable files, nothing gained by running another program."""
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform != "linux":
        return
    prctl = ctypes.CDLL(None).prctl
    if prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise StartupFault("the kernel refuses PR_SET_DUMPABLE")
    if prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise StartupFault("the kernel refuses PR_SET_NO_NEW_PRIVS")


def read_pin(source: PinFile | PinDescriptor | PinCredential) -> str:
    """Return the PIN; raises StartupFault."""
    match source:
        case PinDescriptor():
            raw = _read_descriptor(source.number)
        case PinCredential():
            raw = _read_file(_credential(source.name), managed=True)
        case PinFile():
            raw = _read_file(source.path, managed=False)
    pin = raw.decode("ascii", errors="ignore").rstrip("\n")
    if not pin or len(raw) > PIN_MAX or len(pin) + raw.count(b"\n") != len(raw) or not pin.isprintable():
        raise StartupFault("the PIN file is empty or does not hold one short line")
    return pin


def _read_descriptor(number: int) -> bytes:
    try:
        with os.fdopen(number, "rb") as stream:
            return stream.read(PIN_MAX + 1)
    except OSError as error:
        raise StartupFault("the PIN's file descriptor cannot be read; pass it open") from error


def _credential(name: str) -> Path:
    directory = os.environ.get("CREDENTIALS_DIRECTORY", "")
    if not directory:
        raise StartupFault(
            "there is no CREDENTIALS_DIRECTORY; start the signer under systemd with LoadCredential, or use pin_file"
        )
    return Path(directory) / name


def _read_file(path: Path, *, managed: bool) -> bytes:
    """Return what is in the file. `managed`: systemd made it, and lets us read root's file by an ACL.

    Such a file's group bits are the ACL's mask, not root's group; everybody else's bits mean what they say.
    """
    others = stat.S_IWGRP | stat.S_IRWXO if managed else stat.S_IRWXG | stat.S_IRWXO
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if status.st_mode & others or status.st_uid not in (0, os.getuid()):
                raise StartupFault(
                    f"the PIN file {path} must be readable by the signer's user only: chmod 600"
                )
            return stream.read(PIN_MAX + 1)
    except OSError as error:
        raise StartupFault(f"the PIN file {path} cannot be read: {error.strerror}") from error
