"""The whole platform on one machine: the outside world simulated, the product as it is, real processes throughout.

`up` starts everything in order and waits until each part serves; `kill` and `start` are for crash tests; `stop` ends everything
in reverse. Whatever happens to the process that holds the stack, nothing of it stays behind (devnet/watchdog.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO

from devnet import anvil, specs, valkey
from devnet.config import (
    EVM_CHAIN,
    FIXED_PORTS,
    ROOT,
    STELLAR_CHAIN,
    Endpoints,
    Places,
    create_approvers,
    local_url,
    write_bank_secret,
    write_product_config,
    write_webhook_key,
)
from devnet.ports import choose_port
from devnet.postgres import Postgres, create_cluster, delete_cluster
from devnet.processes import ManagedProcess, ProcessSpec, StackError, Watchdog, answers
from devnet.record import StackRecord, end_leftovers, load_record, running, take_place
from devnet.secrets import secret_file, write_private
from devnet.signer import prepare_signer

DATABASE = "custody"
APP_ROLE = "custody_app"
PRODUCT = ("signer", "api", "ingestion-stellar", "ingestion-evm", "worker", "rails")
"""Names of the product's processes, in the order of their start."""
OUTSIDE = ("postgres", "valkey", "anvil", "stellar", "bank")
"""Names of the simulated outside world's processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessStatus:
    """One line of `custody status`."""

    name: str
    pid: int | None
    """None when it does not run."""
    ready: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a stack differs from the next."""

    fixed_ports: bool = False
    """Take the well-known ports where they are free, so that people find them again."""
    keep_state: bool = False
    """Continue from the state of the last run instead of a clean one."""
    durable: bool = False
    """Let Postgres wait for the disk on commit; benches want it, tests do not."""
    close_every_ms: int = 1000
    """How often the local Stellar network closes a ledger."""
    intent_valid_s: int = 900
    """How long approvers have."""
    automatic: bool = False
    """Let the signer's policy ask nobody for small payments (`policy.SMALL`)."""
    chains: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Per chain, settings of the product that differ from the usual ones."""
    front: Callable[[str, str], str] | None = None
    """Told who is called and where (a chain's node by the product, the API by the "bank"), names the address that the caller is
    given: something stands between them."""


class Stack:
    """One stack in one state folder. A context manager: everything ends with the block."""

    def __init__(
        self,
        state: Path = ROOT / "var" / "devnet",
        options: Options | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        self.places = Places(state=state.resolve())
        self._options = options or Options()
        self._say = say
        self._watchdog = Watchdog()
        self._processes: dict[str, ManagedProcess] = {}
        self._taken: set[int] = set()
        self._postgres: Postgres | None = None
        self._endpoints: Endpoints | None = None
        self._place: IO[str] | None = None

    def __enter__(self) -> Stack:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def endpoints(self) -> Endpoints:
        """Where everything is. Raises StackError before `up`."""
        if self._endpoints is None:
            raise StackError("the stack is not up")
        return self._endpoints

    @property
    def postgres(self) -> Postgres:
        """The database server, for looking inside. Raises StackError before `up`."""
        if self._postgres is None:
            raise StackError("the stack is not up")
        return self._postgres

    @property
    def signer_runs_as_us(self) -> bool:
        """Whether the signer shares our system user, because no other can reach the interpreter or we are not root."""
        return self._named("signer").spec.user is None

    def up(self) -> Endpoints:
        """Start everything. Raises StackError with one sentence; what was started is then ended again."""
        begun = time.monotonic()
        self._place = self._place or take_place(self.places.state)
        if self._place is None:
            raise StackError(f"a stack runs already in {self.places.state}: `custody down` ends it")
        try:
            self._clear()
            ports = {name: self._port(name) for name in FIXED_PORTS}
            ends = self._write_configuration(ports)
            self._launch(*self._outside_specs(ports), self._signer_spec(ends))
            self._await("postgres")
            self._provision()
            self._launch(*specs.product_specs(self.places, ends, ports["api"]))
            self._await(*(name for name in self._processes if name != "postgres"))
        except BaseException:
            self.stop()
            raise
        self._say(f"the stack is up after {time.monotonic() - begun:.1f} s; logs are in {self.places.logs}")
        return ends

    def kill(self, name: str) -> None:
        """SIGKILL to one process and everything that it started."""
        self._named(name).kill()

    def start(self, name: str) -> None:
        """Start one process again and wait until it serves; a no-op when it runs."""
        self.revive(name)
        self._named(name).wait_ready()

    def revive(self, name: str) -> None:
        """Start one process again and go on; a no-op when it runs. It may end again before it serves."""
        process = self._named(name)
        if process.pid is None:
            if name == "postgres":
                self.postgres.forget_lock()
            process.start()
            self._save()

    def status(self) -> list[ProcessStatus]:
        """Every process, in the order of its start."""
        return [
            ProcessStatus(
                name=name, pid=process.pid, ready=process.pid is not None and answers(process.spec.ready)
            )
            for name, process in self._processes.items()
        ]

    def ended(self) -> list[str]:
        """Names of the processes that should run and do not."""
        return [name for name, process in self._processes.items() if process.pid is None]

    def stop(self) -> None:
        """End everything, last started first. Safe to repeat, and without effect on a stack that was left to itself."""
        if self._processes:
            self.places.record.unlink(missing_ok=True)
        # The product ends at once and before the world around it does, so that nobody misses anybody.
        for name in PRODUCT:
            if name in self._processes:
                self._processes[name].ask_to_end()
        for process in reversed(self._processes.values()):
            process.stop()
        self._watchdog.close()
        self._processes.clear()
        self._taken.clear()
        self._postgres = self._endpoints = None
        self._leave_place()

    def detach(self) -> None:
        """Leave everything running when this process ends; `custody down` ends it."""
        self._save(supervised=False)
        self._watchdog.detach()
        self._processes.clear()
        self._leave_place()

    def _leave_place(self) -> None:
        if self._place is not None:
            self._place.close()
            self._place = None

    def _clear(self) -> None:
        """End what an earlier run left behind and, unless it shall be continued, forget its state."""
        record = load_record(self.places.record)
        if record is not None:
            if record.kept_alive():
                raise StackError(f"a stack runs already in {self.places.state}: `custody down` ends it")
            for name in end_leftovers(record):
                self._say(f"ended {name}, which an earlier run had left behind")
            self.places.record.unlink()
        if self.places.state.exists() and not self._options.keep_state:
            delete_cluster(self.places.state)
            shutil.rmtree(self.places.state)
        self.places.state.mkdir(parents=True, exist_ok=True)

    def _port(self, name: str) -> int:
        wanted = FIXED_PORTS[name] if self._options.fixed_ports else None
        return choose_port(name, wanted, self._taken, self._say)

    def _write_configuration(self, ports: dict[str, int]) -> Endpoints:
        self._say("postgres: preparing its data")
        self._postgres = create_cluster(self.places.state, ports["postgres"], durable=self._options.durable)
        app_password = secret_file(self.places.state / "app.password")
        write_private(self.places.state / "admin.dsn", self._postgres.dsn(database=DATABASE))
        ends = Endpoints(
            api_url=local_url(ports["api"]),
            evm_rpc_url=anvil.url(ports["anvil"]),
            stellar_rpc_url=local_url(ports["stellar"]),
            bank_url=local_url(ports["bank"]),
            redis_url=valkey.url(ports["valkey"]),
            admin_dsn=self._postgres.dsn(database=DATABASE),
            app_dsn=self._postgres.dsn(APP_ROLE, app_password, DATABASE),
            signer_socket=self.places.signer / "signer.sock",
            config=self.places.config,
        )
        write_bank_secret(self.places)
        write_webhook_key(self.places)
        create_approvers(self.places)
        chains = {STELLAR_CHAIN: ends.stellar_rpc_url, EVM_CHAIN: ends.evm_rpc_url}
        write_product_config(
            self.places, ends, ports["api"], self._options.intent_valid_s, self._settings_of(chains)
        )
        self._endpoints = ends
        return ends

    def _settings_of(self, nodes: Mapping[str, str]) -> dict[str, dict[str, object]]:
        """What is different on each chain from what the local stack has by itself."""
        return {
            chain: {"rpc_url": self._front(chain, url)} | dict(self._options.chains.get(chain, {}))
            for chain, url in nodes.items()
        }

    def _front(self, name: str, url: str) -> str:
        """What is reached at this address, or what stands before it."""
        return url if self._options.front is None else self._options.front(name, url)

    def _outside_specs(self, ports: dict[str, int]) -> list[ProcessSpec]:
        state = self.places.state
        return [
            self.postgres.spec(),
            valkey.valkey_spec(state, ports["valkey"]),
            anvil.anvil_spec(ROOT, state, ports["anvil"]),
            specs.stellar_spec(self.places, ports["stellar"], self._options.close_every_ms),
            specs.bank_spec(self.places, ports["bank"], self._front("bank", self.endpoints.api_url)),
        ]

    def _signer_spec(self, ends: Endpoints) -> ProcessSpec:
        user = specs.signer_user()
        config, token = prepare_signer(
            self.places, ends.signer_socket, user, automatic=self._options.automatic
        )
        return specs.signer_spec(config, ends.signer_socket, token, user)

    def _provision(self) -> None:
        """The database, its roles and every migration, by the command that a real site runs."""
        if not self.postgres.run_sql(f"SELECT 1 FROM pg_database WHERE datname = '{DATABASE}'").strip():
            self.postgres.run_sql(f"CREATE DATABASE {DATABASE}")
        files = {"--admin-dsn-file": "admin.dsn", "--app-password-file": "app.password"}
        options = [word for option, name in files.items() for word in (option, str(self.places.state / name))]
        done = subprocess.run(
            [sys.executable, "-m", "custody.db.provision", *options],
            cwd=ROOT,
            env={"PATH": os.defpath, "LANG": "C.UTF-8"},
            capture_output=True,
            text=True,
            check=False,
        )
        (self.places.logs / "migrate.log").write_text(done.stdout + done.stderr, encoding="utf-8")
        if done.returncode != 0:
            raise StackError(f"the migrations failed: {(done.stderr or done.stdout).strip()[-2000:]}")
        self._say("database: roles and migrations are in place")

    def _launch(self, *batch: ProcessSpec) -> None:
        """Start these at once; whoever needs one of them awaits it."""
        for spec in batch:
            process = ManagedProcess(spec, self.places.logs / f"{spec.name}.log", self._watchdog)
            self._processes[spec.name] = process
            process.start()
        self._save()

    def _await(self, *names: str) -> None:
        for name in names:
            self._processes[name].wait_ready()
            self._say(f"{name}: ready")

    def _save(self, *, supervised: bool = True) -> None:
        alive = [(name, process.pid) for name, process in self._processes.items() if process.pid is not None]
        ends = self.endpoints
        urls = {
            "api": ends.api_url,
            "stellar": ends.stellar_rpc_url,
            "evm": ends.evm_rpc_url,
            "bank": ends.bank_url,
        }
        StackRecord(
            supervisor=running("supervisor", os.getpid()) if supervised else None,
            processes=tuple(found for name, pid in alive if pid and (found := running(name, pid))),
            urls=urls,
        ).save(self.places.record)

    def _named(self, name: str) -> ManagedProcess:
        try:
            return self._processes[name]
        except KeyError:
            known = ", ".join(self._processes) or "none"
            raise StackError(f"no process {name} in this stack; there are: {known}") from None
