"""Initialise a SoftHSM token without its PINs on any command line: softhsm2-util asks for them on a terminal, this answers.

`python make-token.py LABEL PIN_FILE SO_PIN_FILE`, with SOFTHSM2_CONF set. For test tokens: a real HSM's token is made in a
ceremony. Standard library only, because the signer's image holds nothing else of ours.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

PROMPT = b"PIN: "


def make_token(label: str, pin: str, so_pin: str) -> int:
    """The tool's exit code. It asks for each PIN twice: the security officer's, then the user's."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["softhsm2-util", "--init-token", "--free", "--label", label],
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        for answer in (so_pin, so_pin, pin, pin):
            if not await_prompt(ours):
                break
            os.write(ours, answer.encode() + b"\n")
        drain(ours)
    finally:
        os.close(ours)
    return process.wait()


def await_prompt(terminal: int) -> bool:
    """Read until the tool asks; False when it ended instead."""
    seen = b""
    while not seen.endswith(PROMPT):
        try:
            piece = os.read(terminal, 1024)
        except OSError:  # how a terminal says that nobody is at its other end any more
            return False
        if not piece:
            return False
        seen += piece
    return True


def drain(terminal: int) -> None:
    """Let the tool finish what it has to say."""
    while True:
        try:
            if not os.read(terminal, 1024):
                return
        except OSError:  # as above: the tool has ended
            return


if __name__ == "__main__":
    sys.exit(
        make_token(sys.argv[1], Path(sys.argv[2]).read_text().strip(), Path(sys.argv[3]).read_text().strip())
    )
