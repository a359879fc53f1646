"""Ports of 127.0.0.1 for the local stack: the wanted one where it is free, another where it is not, and which it became."""

import random
import socket
from collections.abc import Callable

HOST = "127.0.0.1"
# Below the ranges from which Linux (32768-60999) and macOS (49152-65535) pick ports of outgoing connections, so that a
# port that was free when chosen is not taken by one of our own connections before the server binds it.
_RANGE = range(20_000, 32_000)


class NoFreePort(Exception):
    """No port of the range could be bound: something is very wrong with this machine's network."""


def is_free(port: int) -> bool:
    """Whether a server could bind this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def choose_port(name: str, wanted: int | None, taken: set[int], say: Callable[[str], None]) -> int:
    """A free port that is not in `taken` (it is added there). Says so when the wanted port was in use.

    Raises NoFreePort.
    """
    if wanted is not None and wanted not in taken and is_free(wanted):
        taken.add(wanted)
        return wanted
    for candidate in random.sample(_RANGE, 200):
        if candidate not in taken and is_free(candidate):
            taken.add(candidate)
            if wanted is not None:
                say(f"port {wanted} is in use: {name} gets {candidate} instead")
            return candidate
    raise NoFreePort(name)
