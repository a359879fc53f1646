"""Crashes on demand, at named points, so that a test can stop a flow between any two steps and start it again."""

from __future__ import annotations

from collections import Counter


class Crash(Exception):
    """The process died here: nothing after this line ran, and nobody handled it."""


class Faults:
    """Dies once at each armed point."""

    def __init__(self) -> None:
        self.armed: Counter[str] = Counter()
        self.passed: list[str] = []

    def arm(self, point: str, times: int = 1) -> None:
        """Die the next `times` times that this point is passed."""
        self.armed[point] += times

    def reach(self, point: str) -> None:
        """A flow passes this point."""
        self.passed.append(point)
        if self.armed[point]:
            self.armed[point] -= 1
            raise Crash(point)
