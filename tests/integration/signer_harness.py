"""A real signer process on a real SoftHSM token in a directory of its own, and a client that speaks its protocol."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from signer.protocol import canonical
from signer.protocol.intent import Intent
from signer.protocol.messages import Binding, Health, Request, Response, Sign, dump, load_response
from signer.protocol.wire import receive_frame, send_frame
from tests.fakes.signer_people import approve
from tests.softhsm import MODULE, PIN, init_token, write_configuration

ROOT = Path(__file__).resolve().parents[2]


def make_token(directory: Path) -> Path:
    """Create a token in `directory`; return the SoftHSM configuration file."""
    configuration = write_configuration(directory)
    init_token(configuration, "custody")
    return configuration


@dataclass
class SignerProcess:
    """One signer: its directory, its process, one connection to it."""

    directory: Path
    process: subprocess.Popen[bytes] | None = None
    connection: socket.socket | None = None
    roles: list[str] = field(default_factory=lambda: ["requester", "operator"])
    code_path: Path = ROOT
    ceremony_keys: list[str] = field(default_factory=list)
    tls: str = ""
    """The table [tls] of the configuration, or nothing."""
    environment: dict[str, str] = field(default_factory=dict)
    """What it is started with beside PATH and SOFTHSM2_CONF."""
    prefix: list[str] = field(default_factory=list)
    """The command that becomes it, with its own arguments."""

    @property
    def journal(self) -> Path:
        return self.directory / "journal" / "journal.log"

    @property
    def log(self) -> str:
        return (self.directory / "signer.log").read_text()

    def prepare(self, policy: dict[str, object]) -> None:
        """Write token, PIN, policy and configuration."""
        make_token(self.directory)
        (self.directory / "journal").mkdir()
        self.write_pin(PIN)
        (self.directory / "policy.json").write_text(json.dumps(policy))
        self.write_config()

    def write_pin(self, pin: str) -> None:
        path = self.directory / "pin"
        path.write_text(pin + "\n")
        path.chmod(0o600)

    def write_config(
        self, module: str = str(MODULE), token: str = "custody", pinned: str = "", connections: int = 4
    ) -> None:
        (self.directory / "signer.toml").write_text(
            f"""
socket = "{self.directory}/s.sock"
socket_mode = "0600"
journal_dir = "{self.directory}/journal"
policy = "{self.directory}/policy.json"
[hsm]
module = "{module}"
module_sha256 = "{pinned}"
token = "{token}"
pin_file = "{self.directory}/pin"
sessions = 2
ceremony_keys = {json.dumps(self.ceremony_keys)}
[limits]
connections = {connections}
request_s = 2
idle_s = 30
[[peers]]
uid = {os.getuid()}
roles = {json.dumps(self.roles)}
{self.tls}
"""
        )

    def start(self) -> None:
        """Start the process and wait until it answers."""
        self.spawn()
        assert self.process is not None
        for _ in range(600):
            with contextlib.suppress(OSError):
                self.connect()
                break
            assert self.process.poll() is None, self.log
            time.sleep(0.05)
        self.ask(Health())

    def spawn(self) -> None:
        conf = str(self.directory / "softhsm2.conf")
        environment = {"PATH": os.environ["PATH"], "SOFTHSM2_CONF": conf, **self.environment}
        with (self.directory / "signer.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    sys.executable,
                    "-m",
                    "signer.main",
                    "--config",
                    str(self.directory / "signer.toml"),
                ],
                cwd=self.code_path,
                env=environment,
                stderr=log,
                stdout=log,
            )

    def refuse_to_start(self) -> tuple[int, str]:
        """Start it in the expectation that it ends by itself; return exit code and its last line."""
        self.spawn()
        assert self.process is not None
        code = self.process.wait(timeout=60)
        return code, self.log.splitlines()[-1]

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(30)
        try:
            connection.connect(str(self.directory / "s.sock"))
        except OSError:
            connection.close()
            raise
        self.hang_up()
        self.connection = connection
        return connection

    def hang_up(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def ask(self, request: Request) -> Response:
        """Send one request, return the answer."""
        assert self.connection is not None
        send_frame(self.connection, dump(request))
        return load_response(receive_frame(self.connection))

    def sign(self, intent: Intent, binding: Binding, *names: str) -> Response:
        """Ask for a signature with these people's approvals."""
        data = canonical.encode(intent)
        return self.ask(Sign(intent=data, approvals=approve(data, *names), binding=binding))

    def kill(self) -> None:
        """kill -9."""
        self.hang_up()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def stop(self) -> int:
        """SIGTERM, while the connection is still open; return the exit code."""
        if self.process is None:
            return 0
        self.process.terminate()
        code = self.process.wait(timeout=30)
        self.hang_up()
        self.process = None
        return code
