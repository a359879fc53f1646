"""The stack's own record, `stack.json`: which processes it started, so that another command can show or end them.

A process counts as ours only while its number and its time of birth both match: numbers are used again.
"""

from __future__ import annotations

import fcntl
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO

from devnet.processes import birth
from devnet.watchdog import end_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningProcess:
    """One process that the stack started, head of its own process group."""

    name: str
    pid: int
    birth: str
    """When it began, in the words of devnet.processes.birth."""

    def alive(self) -> bool:
        """Whether this very process still runs."""
        return birth(self.pid) == self.birth


@dataclass(frozen=True, slots=True, kw_only=True)
class StackRecord:
    """What was running when the record was last written."""

    supervisor: RunningProcess | None
    """The command that started the stack and ends it; None when the stack was left to itself."""
    processes: tuple[RunningProcess, ...]
    """In the order of their start."""
    urls: dict[str, str] = field(default_factory=dict)
    """Name to address, for people."""

    def kept_alive(self) -> bool:
        """Whether somebody wants it to run: its supervisor lives, or it was left to itself on purpose and still runs."""
        if self.supervisor is not None:
            return self.supervisor.alive()
        return any(process.alive() for process in self.processes)

    def save(self, path: Path) -> None:
        """Replace the record in one step."""
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(self), indent=2), encoding="utf-8")
        partial.replace(path)


def load_record(path: Path) -> StackRecord | None:
    """The record in this file, None without one."""
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))
    supervisor = value["supervisor"]
    return StackRecord(
        supervisor=RunningProcess(**supervisor) if supervisor else None,
        processes=tuple(RunningProcess(**process) for process in value["processes"]),
        urls=value["urls"],
    )


def end_leftovers(record: StackRecord) -> list[str]:
    """End what still runs of this record, last started first. Returns the names."""
    alive = [process for process in record.processes if process.alive()]
    end_groups([process.pid for process in alive])
    return [process.name for process in alive]


def running(name: str, pid: int) -> RunningProcess | None:
    """This process as the record keeps it, None when it is gone already."""
    began = birth(pid)
    return None if began is None else RunningProcess(name=name, pid=pid, birth=began)


def take_place(state: Path) -> IO[str] | None:
    """Keep others from starting a stack in this state folder until the file is closed or we end; None when somebody else does.

    The record appears only with the first process; this holds from the first moment. It stands beside the folder, which a new
    stack removes, and our children do not inherit it.
    """
    state.parent.mkdir(parents=True, exist_ok=True)
    file = state.with_name(f"{state.name}.lock").open("w", encoding="ascii")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
