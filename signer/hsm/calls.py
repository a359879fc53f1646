"""Signing by the module's own functions.

The binding's `sign` asks every time how long a signature may be and gives way to other threads three times; two threads that sign
with Ed25519 then take as long as one. Here it is two calls, and both let other threads run. Source: PKCS#11 v2.40 s.5.11.
"""

import ctypes
from pathlib import Path

from signer.refusal import HsmFault

_OK = 0
_SIGNATURE_MAX = 64
"""No mechanism of ours makes longer ones."""


class _Mechanism(ctypes.Structure):
    """CK_MECHANISM."""

    _fields_ = (
        ("mechanism", ctypes.c_ulong),
        ("pParameter", ctypes.c_void_p),
        ("ulParameterLen", ctypes.c_ulong),
    )


class SignCalls:
    """C_SignInit and C_Sign of a module that is loaded already."""

    def __init__(self, module: Path) -> None:
        library = ctypes.CDLL(str(module))
        self._begin, self._sign = library.C_SignInit, library.C_Sign
        self._begin.restype = self._sign.restype = ctypes.c_ulong
        self._begin.argtypes = (ctypes.c_ulong, ctypes.c_void_p, ctypes.c_ulong)
        self._sign.argtypes = (
            ctypes.c_ulong,
            ctypes.c_char_p,
            ctypes.c_ulong,
            ctypes.c_void_p,
            ctypes.c_void_p,
        )

    def sign(self, session: int, key: int, mechanism: int, message: bytes) -> bytes:
        """Return the signature; session and key are the binding's handles, and the session is nobody else's meanwhile.

        Raises HsmFault, after which the session may be busy for ever.
        """
        asked = _Mechanism(mechanism=mechanism, pParameter=None, ulParameterLen=0)
        signature, length = ctypes.create_string_buffer(_SIGNATURE_MAX), ctypes.c_ulong(_SIGNATURE_MAX)
        _demand_ok("C_SignInit", self._begin(session, ctypes.byref(asked), key))
        _demand_ok("C_Sign", self._sign(session, message, len(message), signature, ctypes.byref(length)))
        return signature.raw[: length.value]


def _demand_ok(function: str, code: int) -> None:
    if code != _OK:
        raise HsmFault(f"{function} answered 0x{code:x}")
