"""A signer in this process, on a fake token, with as many of them as a test asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from signer.audit.entries import read_entries
from signer.audit.inspection import inspect
from signer.decide import Decider
from tests.fakes.signer_desk import Desk
from tests.fakes.signer_hsm import FakeToken
from tests.fakes.signer_people import make_policy


@pytest.fixture
def make_signer(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(**policy: object) -> Desk:
        directory = tmp_path / str(len(made))
        directory.mkdir()
        made.append(Desk(directory=directory, token=FakeToken(), policy=make_policy(**policy)))
        return made[-1]

    yield make
    for signer in made:
        if signer.record is not None:
            signer.record.close()
    # Whatever a test let a signer decide, an audit decides the same again.
    for signer in made:
        if signer.lines():
            inspect(read_entries(signer.directory), [], keep=True)


@pytest.fixture
def signer(make_signer: Callable[..., Desk]) -> Desk:
    return make_signer()


@pytest.fixture
def decider(signer: Desk) -> Decider:
    return signer.start()
