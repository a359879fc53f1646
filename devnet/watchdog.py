"""Ends the stack's processes when their parent disappears, however it does: `kill -9` included, on Linux and on macOS.

The parent holds the other end of our standard input and writes one line per process group: "+123" it began, "-123" it ended,
"detach" when the processes shall outlive the parent. End of file means that the parent is gone. (PR_SET_PDEATHSIG would not do:
it fires when the starting thread ends, and macOS does not have it.)
"""

import contextlib
import os
import signal
import sys
import time

GRACE_S = 5.0
"""How long a process may take to end by itself after SIGTERM."""


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: list[int] = []
    for line in sys.stdin:
        word = line.strip()
        if word == "detach":
            return 0
        if word.startswith("+"):
            groups.append(int(word[1:]))
        elif word.startswith("-") and int(word[1:]) in groups:
            groups.remove(int(word[1:]))
    end_groups(groups)
    return 0


def end_groups(groups: list[int]) -> None:
    """SIGTERM to each group, last begun first, then SIGKILL to those that are still there after the grace."""
    for group in reversed(groups):
        send(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while any(send(group, 0) for group in groups) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in reversed(groups):
        send(group, signal.SIGKILL)


def send(group: int, number: int) -> bool:
    """Whether the group still existed (signal 0 only asks)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
        return True
    return False


if __name__ == "__main__":
    sys.exit(main())
