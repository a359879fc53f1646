"""The model in docs/model is of this code: what it names exists, and no event of a withdrawal is missing in it."""

from __future__ import annotations

import re
from importlib import import_module
from operator import attrgetter
from pathlib import Path

import pytest

from custody.withdrawals.transitions import WITHDRAWALS

MODEL = (Path(__file__).parents[2] / "docs" / "model" / "withdrawal.pml").read_text(encoding="utf-8")
NAMED = re.findall(r"= ([a-z_.]+):([A-Za-z_.]+)(?: \(([a-z, ]+)\))?", MODEL)


@pytest.mark.parametrize(("module", "name"), sorted({(module, name) for module, name, _ in NAMED}))
def test_what_the_model_names_is_in_the_code(module: str, name: str) -> None:
    assert callable(attrgetter(name)(import_module(module)))


def test_the_model_has_every_event_and_no_other() -> None:
    modelled = {event for *_, events in NAMED for event in events.split(", ") if event}
    assert modelled == set(WITHDRAWALS.events)
