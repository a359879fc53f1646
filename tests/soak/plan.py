"""Which faults come when: drawn from a seed before anything starts, so that the same seed brings the same ones again. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from devnet.stack import PRODUCT

GAP_S = 1.3
"""On average, from one fault to the next."""
KILLS_FIRST = 4
"""Kills among what every soak begins with, beside the one that each kind has."""
CALM_S = 1.0
"""Without faults at the beginning."""
LONGEST_S = 6.0
"""Of a fault that lasts."""
CONFIRMATIONS = 3
"""A block is final when so many follow; no reorganisation is deeper."""
NODES = ("stellar", "evm")
PROCESSES = (*PRODUCT, *PRODUCT, "valkey", "valkey", "postgres", "stellar", "bank")
"""Whom a kill may hit. anvil keeps its chain in memory: without it there is nothing to compare with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    at_s: float
    """Since the beginning."""
    name: str
    where: str = ""
    """Process or node."""
    size: float = 0.0
    """Seconds of delay, share of lies, blocks, or price; by the name."""
    lasts_s: float = 0.0

    def __str__(self) -> str:
        size = f" {self.size:g}" if self.size else ""
        lasts = f" for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"{self.at_s:6.1f} s {self.name} {self.where}{size}{lasts}"


def draw(seed: int, seconds: float) -> list[Fault]:
    """All faults of a soak, in their order."""
    chance = random.Random(seed)
    found: list[Fault] = []
    at = CALM_S
    names = list(KINDS)
    weights = [weight for weight, _ in KINDS.values()]
    # Every kind once and kills more often, in any order, and then as chance has it: a short soak is without none.
    first = [*names, *["kill"] * KILLS_FIRST]
    chance.shuffle(first)
    while (at := at + chance.expovariate(1 / GAP_S)) < seconds:
        name = first.pop() if first else chance.choices(names, weights)[0]
        where, size, lasts = KINDS[name][1](chance)
        found.append(
            Fault(at_s=round(at, 3), name=name, where=where, size=size, lasts_s=min(lasts, seconds - at))
        )
    return found


def count(faults: Sequence[Fault]) -> dict[str, int]:
    """How many of each kind."""
    return dict(sorted(Counter(fault.name for fault in faults).items()))


Drawn = tuple[str, float, float]


def _kill(chance: random.Random) -> Drawn:
    return chance.choice(PROCESSES), 0.0, chance.uniform(0.0, 2.0)


def _flush(_: random.Random) -> Drawn:
    return "valkey", 0.0, 0.0


def _outage(chance: random.Random) -> Drawn:
    return chance.choice(NODES), 0.0, chance.uniform(1.0, LONGEST_S)


def _delay(chance: random.Random) -> Drawn:
    return chance.choice(NODES), chance.choice((0.3, 1.0, 3.0)), chance.uniform(1.0, LONGEST_S)


def _lies(chance: random.Random) -> Drawn:
    return chance.choice(NODES), chance.choice((0.1, 0.3, 0.6)), chance.uniform(1.0, LONGEST_S)


def _reorg(chance: random.Random) -> Drawn:
    return "evm", float(chance.randint(1, CONFIRMATIONS)), 0.0


def _spike(chance: random.Random) -> Drawn:
    """Gwei of the next base fee: dear, and dearer than what anybody has approved."""
    return "evm", chance.choice((40.0, 90.0, 250.0)), 0.0


def _surge(chance: random.Random) -> Drawn:
    """Stroops that others bid per operation."""
    return "stellar", chance.choice((400.0, 3000.0)), chance.uniform(1.0, LONGEST_S)


KINDS: dict[str, tuple[int, Callable[[random.Random], Drawn]]] = {
    "kill": (8, _kill),
    "flush": (2, _flush),
    "outage": (2, _outage),
    "delay": (2, _delay),
    "lies": (3, _lies),
    "reorg": (2, _reorg),
    "spike": (1, _spike),
    "surge": (1, _surge),
}
"""How often each comes, and how it is drawn."""
