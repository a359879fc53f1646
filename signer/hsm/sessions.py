"""Sessions with the token: one that logged in and is kept for life, and a pool that the work goes through.

Login belongs to the process. Closing the session that logged in would log everybody out, and a session in
which a call failed may stay busy for ever; so the first is never handed out and the second is thrown away and
opened anew.
"""

import queue
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pkcs11

from signer.hsm.module import Token
from signer.hsm.templates import TemplateMapper
from signer.refusal import HsmFault, StartupFault


@dataclass(slots=True, kw_only=True)
class Slot:
    """One pooled session with the key handles found in it."""

    session: Any
    """None when the last session failed and the next user must open one."""
    handles: dict[bytes, Any] = field(default_factory=dict)
    unwrapped: dict[bytes, Any] = field(default_factory=dict)
    """Session objects of wrapped keys by their wrapped bytes, the one used longest ago first."""
    wrapping: tuple[Any, bytes] | None = None
    """The wrapping key and its fingerprint, once this session has checked it."""


class SessionPool:
    """A fixed number of read-write sessions, each used by one thread at a time."""

    def __init__(self, token: Token, pin: str, size: int) -> None:
        """Log in once. Raises StartupFault; a PIN is never tried twice, since real HSMs count and lock."""
        self._token = token.bound
        self.calls = token.calls
        try:
            self._login = self._token.open(rw=True, user_pin=pin)
        except pkcs11.PinLocked as error:
            raise StartupFault(
                "the token's user PIN is locked; the security officer must reset it"
            ) from error
        except (pkcs11.PinIncorrect, pkcs11.PinInvalid, pkcs11.PinLenRange) as error:
            raise StartupFault(
                "the token refuses the PIN; put the right user PIN into the PIN file"
            ) from error
        except pkcs11.PKCS11Error as error:
            raise StartupFault(f"the token cannot be opened: {type(error).__name__}") from error
        self._slots: queue.LifoQueue[Slot] = queue.LifoQueue()
        for _ in range(size):
            self._slots.put(Slot(session=None))
        self._record_slots: queue.LifoQueue[Slot] = queue.LifoQueue()
        self._record_slots.put(Slot(session=None))
        # SoftHSM races when objects are created or destroyed while others look for objects (its issue 573).
        self.objects = threading.RLock()

    def slot(self) -> AbstractContextManager[Slot]:
        """Lend a session; raises HsmFault for whatever the module throws inside, and forgets that session."""
        return self._lend(self._slots)

    def record_slot(self) -> AbstractContextManager[Slot]:
        """Lend, in the same way, the one session that is the journal's: its calls never wait behind signatures."""
        return self._lend(self._record_slots)

    @contextmanager
    def _lend(self, slots: queue.LifoQueue[Slot]) -> Iterator[Slot]:
        slot = slots.get()
        keep = False
        try:
            if slot.session is None:
                slot = Slot(session=self._token.open(rw=True, attribute_mapper=TemplateMapper()))
            yield slot
            keep = True
        except pkcs11.PKCS11Error as error:
            raise HsmFault(type(error).__name__) from error
        finally:
            if not keep:
                with self.objects:
                    _give_up(slot.session)
            slots.put(slot if keep else Slot(session=None))


def _give_up(session: Any) -> None:
    """Close a session that may be broken; when even that fails, the module has forgotten it already."""
    if session is not None:
        with suppress(pkcs11.PKCS11Error):
            session.close()
