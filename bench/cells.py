"""What a cell of a bench measures, and the table and file that cells end in."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

BUILD = Path(__file__).parent.parent / "build" / "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One contender in one round."""

    done: int
    """Transfers answered."""
    seconds: float
    """For how long it ran."""
    server_cpu_s: float
    """Processor time of Postgres meanwhile."""
    client_cpu_s: float
    """Processor time of the client meanwhile."""
    latencies_us: Sequence[float]
    """Of each transfer."""

    @property
    def per_second(self) -> float:
        """Transfers a second."""
        return self.done / self.seconds

    def latency_us(self, quantile: float) -> float:
        """The latency that this share of transfers stayed below."""
        ordered = sorted(self.latencies_us)
        return ordered[min(len(ordered) - 1, int(len(ordered) * quantile))]

    @property
    def server_us(self) -> float:
        """Processor time of Postgres per transfer."""
        return self.server_cpu_s / self.done * 1e6

    @property
    def client_us(self) -> float:
        """Processor time of the client per transfer."""
        return self.client_cpu_s / self.done * 1e6


async def clients(
    count: int, seconds: float, server_cpu: Callable[[], float], one: Callable[[], Awaitable[int]]
) -> Cell:
    """So many clients, each with one request in flight at a time. `one` answers how many transfers it made."""
    latencies: list[float] = []
    done = 0
    clock = time.perf_counter
    started, cpu, served = clock(), time.process_time(), server_cpu()
    end = started + seconds

    async def client() -> None:
        nonlocal done
        while (asked := clock()) < end:
            made = await one()  # first: `done` read before the wait would lose what others added
            done += made
            latencies.append((clock() - asked) * 1e6)

    await asyncio.gather(*(client() for _ in range(count)))
    return Cell(
        done=done,
        seconds=clock() - started,
        server_cpu_s=server_cpu() - served,
        client_cpu_s=time.process_time() - cpu,
        latencies_us=latencies,
    )


def ratio(rounds: Sequence[dict[str, Cell]], candidate: str, baseline: str) -> float:
    """Candidate over baseline in transfers a second: the median of the rounds' own ratios, since the machine's pace varies."""
    return median(cells[candidate].per_second / cells[baseline].per_second for cells in rounds)


def middle(rounds: Sequence[dict[str, Cell]], name: str, figure: Callable[[Cell], float]) -> float:
    """The median of a figure over the rounds."""
    return median(figure(cells[name]) for cells in rounds)


def print_table(rounds: Sequence[dict[str, Cell]]) -> None:
    """One line per contender: medians of the rounds."""
    print(f"{'':<16}{'per s':>9}{'p50 ms':>9}{'p99 ms':>9}{'server us':>11}{'client us':>11}")
    for name in rounds[0]:
        figures = (
            middle(rounds, name, lambda cell: cell.per_second),
            middle(rounds, name, lambda cell: cell.latency_us(0.5)) / 1000,
            middle(rounds, name, lambda cell: cell.latency_us(0.99)) / 1000,
            middle(rounds, name, lambda cell: cell.server_us),
            middle(rounds, name, lambda cell: cell.client_us),
        )
        print(
            f"{name:<16}{figures[0]:>9.0f}{figures[1]:>9.1f}{figures[2]:>9.1f}{figures[3]:>11.1f}{figures[4]:>11.1f}"
        )


def write(bench: str, metrics: dict[str, dict[str, object]]) -> Path:
    """`build/bench/NAME.json`, keys in a fixed order."""
    BUILD.mkdir(parents=True, exist_ok=True)
    path = BUILD / f"{bench}.json"
    path.write_text(json.dumps({"bench": bench, "metrics": metrics}, indent=2) + "\n")
    return path
