"""State machines as data: rows of (state, event, target).

The same table decides in code, guards the SQL (`WHERE state = ANY(sources)`), writes the CHECK of the state column, draws
`docs/states.md`, and is tested over every state and event.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody.kernel.errors import IllegalTransition, InvariantViolated


@dataclass(frozen=True, slots=True)
class Transition:
    """One legal move."""

    source: str
    """The state it starts from: a fact (`approved`, `signing`)."""
    event: str
    """What is done: an imperative (`approve`, `cancel`)."""
    target: str
    """The state it ends in."""


class TransitionTable:
    """All the legal moves of one kind of object. A state without an outgoing row is terminal."""

    def __init__(self, name: str, initial: str, rows: tuple[Transition, ...]) -> None:
        """Raises InvariantViolated when two rows answer the same question or a state cannot be reached."""
        self.name = name
        self.initial = initial
        self.rows = rows
        self._targets = {(row.source, row.event): row.target for row in rows}
        self.states: tuple[str, ...] = tuple(
            dict.fromkeys([initial, *(s for row in rows for s in (row.source, row.target))])
        )
        self.events: tuple[str, ...] = tuple(dict.fromkeys(row.event for row in rows))
        self.terminal: frozenset[str] = frozenset(self.states) - {row.source for row in rows}
        reached = {initial} | {row.target for row in rows}
        if len(self._targets) != len(rows) or reached != set(self.states):
            raise InvariantViolated(f"transition table {name} is ambiguous or has an unreachable state")

    def target(self, state: str, event: str) -> str:
        """Where `event` leads from `state`. Raises IllegalTransition when there is no such row."""
        found = self._targets.get((state, event))
        if found is None:
            raise IllegalTransition(object=self.name, state=state, event=event)
        return found

    def sources(self, event: str) -> tuple[str, ...]:
        """The states that `event` may start from: what the SQL's guard compares with."""
        return tuple(row.source for row in self.rows if row.event == event)

    def target_of(self, event: str) -> str:
        """The one state that `event` leads to, for an UPDATE that guards by `sources`. Raises when it leads to several."""
        targets = {row.target for row in self.rows if row.event == event}
        if len(targets) != 1:
            raise InvariantViolated(f"event {event} of {self.name} has {len(targets)} targets")
        return targets.pop()
