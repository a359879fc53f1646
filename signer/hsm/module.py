"""Loading a PKCS#11 module so that threads may use it, and finding the token. The only place that loads a
module.

python-pkcs11 releases the GIL around every call but initialises the module with C_Initialize(NULL), which
tells it that one thread is enough (SoftHSM then switches its locks off, and two signing threads crash the
process). So the module is finalised and initialised again with CKF_OS_LOCKING_OK. Source: PKCS#11 v2.40
s.5.4.
"""

import ctypes
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11

from signer.hsm.calls import SignCalls
from signer.refusal import StartupFault

CKF_OS_LOCKING_OK = 0x2
_TOKEN_TRIES = 20


class _InitializeArgs(ctypes.Structure):
    """CK_C_INITIALIZE_ARGS."""

    _fields_ = (
        ("CreateMutex", ctypes.c_void_p),
        ("DestroyMutex", ctypes.c_void_p),
        ("LockMutex", ctypes.c_void_p),
        ("UnlockMutex", ctypes.c_void_p),
        ("flags", ctypes.c_ulong),
        ("pReserved", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token of a loaded module."""

    bound: Any
    """The binding's."""
    calls: SignCalls


def find_token(module: Path, module_sha256: str, label: str) -> Token:
    """Load the module and return the token with this label.

    `module_sha256` pins the file's hash in hex; "" pins nothing. Raises StartupFault.
    """
    (token,) = find_tokens(module, module_sha256, [label])
    return token


def find_tokens(module: Path, module_sha256: str, labels: Sequence[str]) -> list[Token]:
    """Load the module once and return the tokens with these labels, in order. Raises StartupFault.

    Loading ends every session that the process has with this module.
    """
    _check_module(module, module_sha256)
    library = _load(module)
    calls = SignCalls(module)
    return [Token(bound=_find(library, module, label), calls=calls) for label in labels]


def _find(library: Any, module: Path, label: str) -> Any:
    for _ in range(_TOKEN_TRIES):
        try:
            return library.get_token(token_label=label)
        except pkcs11.NoSuchToken:
            if _shows_tokens(library):
                break
            # Several processes in C_Initialize at once can briefly see no token; a fresh start sees it.
            time.sleep(0.05)
            _initialize_locked(module)
        except pkcs11.PKCS11Error as error:
            raise StartupFault(f"the PKCS#11 module {module} failed: {type(error).__name__}") from error
    raise StartupFault(
        f'the PKCS#11 module {module} has no token "{label}"; create it (SoftHSM: softhsm2-util --init-token) '
        "and check the module's own configuration (SoftHSM: SOFTHSM2_CONF)"
    )


def _check_module(module: Path, module_sha256: str) -> None:
    try:
        found = hashlib.sha256(module.read_bytes()).hexdigest()
    except OSError as error:
        raise StartupFault(
            f"the PKCS#11 module {module} cannot be read; install the vendor's module or, for tests, softhsm2"
        ) from error
    if module_sha256 and found != module_sha256:
        raise StartupFault(f"the PKCS#11 module {module} is not the pinned one: its SHA-256 is {found}")


def _load(module: Path) -> Any:
    try:
        library = pkcs11.lib(str(module))
    except pkcs11.PKCS11Error as error:
        raise StartupFault(f"{module} cannot be loaded as a PKCS#11 module") from error
    _initialize_locked(module)
    return library


def _initialize_locked(module: Path) -> None:
    raw = ctypes.CDLL(str(module))
    for function in (raw.C_Finalize, raw.C_Initialize):
        function.restype = ctypes.c_ulong
        function.argtypes = [ctypes.c_void_p]
    arguments = _InitializeArgs(flags=CKF_OS_LOCKING_OK)
    result = raw.C_Finalize(None) or raw.C_Initialize(ctypes.byref(arguments))
    if result:
        raise StartupFault(f"the PKCS#11 module {module} refuses multi-threaded use (0x{result:x})")


def _shows_tokens(library: Any) -> bool:
    """Tell whether the module sees any initialised token, so that looking again would not help."""
    try:
        return any(slot.get_token().label for slot in library.get_slots(token_present=True))
    except pkcs11.PKCS11Error:
        return False
