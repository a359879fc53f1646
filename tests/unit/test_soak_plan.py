"""A soak's faults follow from its seed alone."""

from __future__ import annotations

from tests.soak.plan import CONFIRMATIONS, KINDS, draw


def test_the_same_seed_brings_the_same_faults() -> None:
    assert draw(7, 600) == draw(7, 600)
    assert draw(7, 600) != draw(8, 600)


def test_a_short_soak_has_every_kind_and_nothing_lasts_beyond_its_end() -> None:
    faults = draw(7, 30)
    assert {fault.name for fault in faults} == set(KINDS)
    assert all(fault.at_s + fault.lasts_s <= 30 for fault in faults)
    assert all(fault.size <= CONFIRMATIONS for fault in faults if fault.name == "reorg")
