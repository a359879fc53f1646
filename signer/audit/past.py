"""The record of a signer as it was at one moment: what decided then decides again here, and nothing is written."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from signer.facts import Fact
from signer.hsm.model import TokenKey, WrappedKey
from signer.record import Record
from signer.refusal import HsmFault
from signer.state import State


class Past(Record):
    """A record without journal, anchor and clock: the state before a fact, and the facts that deciding again would write."""

    def __init__(self) -> None:
        # Not the base's own: it holds what this record does not have.
        self.lock = threading.Lock()
        self.state = State()
        self.moment = 0
        """Unix second at which the decision under audit was made."""
        self.decided: list[Fact] = []
        """What the decision under audit has appended so far. It is not learned: the journal's own fact will be."""
        self._policy = None

    def now(self) -> int:
        """Return the moment."""
        return self.moment

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Decide; there is nothing to settle."""
        yield

    def check_sound(self) -> None:
        """Nothing here can be altered by another hand."""

    def append(self, fact: Fact) -> None:
        """Catch what the decision says."""
        self.decided.append(fact)


class NoKeys:
    """Stands where the token would: an audit needs none, and has none."""

    def generate(self, key_id: bytes, label: str, curve: str) -> TokenKey:  # noqa: ARG002 - the port's
        raise _NO_TOKEN

    def inspect(self, key_id: bytes, curve: str) -> TokenKey:  # noqa: ARG002 - the port's
        raise _NO_TOKEN

    def sign(self, key_id: bytes, curve: str, message: bytes) -> bytes:  # noqa: ARG002 - the port's
        raise _NO_TOKEN

    def generate_wrapped(self) -> WrappedKey:
        raise _NO_TOKEN

    def sign_wrapped(self, key: WrappedKey, message: bytes) -> bytes:  # noqa: ARG002 - the port's
        raise _NO_TOKEN

    def check_wrapping_key(self, fingerprints: frozenset[bytes]) -> None:  # noqa: ARG002 - the port's
        raise _NO_TOKEN


_NO_TOKEN = HsmFault("an audit has no token")
