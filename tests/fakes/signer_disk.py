"""A disk under a signer's journal that dies or fails at any point of its work, as the token does."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.fakes.signer_hsm import FakeToken


@contextmanager
def dying_disk(token: FakeToken) -> Iterator[None]:
    """While it lasts, writing and flushing are calls that the token counts; a write can die when it is half done."""
    write, fsync = os.write, os.fsync

    def reach(name: str) -> None:
        token.called(name)
        if token.broken_disk == name:
            raise OSError(name)

    def write_in_halves(descriptor: int, data: bytes) -> int:
        reach("write")
        half = len(data) // 2
        done = write(descriptor, data[:half])
        reach("write torn")
        return done + write(descriptor, data[half:])

    def flush(descriptor: int) -> None:
        reach("fsync")
        fsync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", write_in_halves)
        patch.setattr(os, "fsync", flush)
        yield
