"""A signer as it runs, for the bench: its own process on a SoftHSM token of its own, with a policy of two approvers.

`python -m bench.signer_stand FOLDER COUNT` makes so many wrapped keys and writes their facts into its journal.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

from bench.signer_people import GROUP, approver_entries
from devnet.softhsm import Token, create_token
from signer.admission import BORN
from signer.config import load_config
from signer.facts import WrappedKeyCreated
from signer.hsm.keys import KeyStore
from signer.hsm.objects import AnchorObject, MacKey
from signer.main import open_pool
from signer.protocol.messages import CreateKey, Health, KeyView, Request, Response, dump, load_response
from signer.protocol.wire import receive_frame, send_frame
from signer.record import Record

CONNECTIONS = 64
PASSPHRASE = "Custody Bench ; 2026"
NETWORK_ID = hashlib.sha256(PASSPHRASE.encode()).hexdigest()
STELLAR_CHAIN, EVM_CHAIN_ID = "stellar:bench", 31337
QUORUM_VAULT, AUTOMATIC_VAULT = "quorum", "automatic"


def policy_document() -> bytes:
    """Two of two people for one vault, nobody within wide limits for the other, and keys for the asking."""
    chains = {
        STELLAR_CHAIN: ("stellar_payment", "1000000"),
        f"eip155:{EVM_CHAIN_ID}": ("evm_transfer", str(10**18)),
    }
    allow = [
        _rule(f"{vault}-{kind}", vault=vault, chain=chain, kind=kind, fee_max=fee_max, people=people)
        for vault, people in ((QUORUM_VAULT, 2), (AUTOMATIC_VAULT, 0))
        for chain, (kind, fee_max) in chains.items()
    ]
    allow += [
        _rule(curve, chain=curve, kind="key_create", asset="none") for curve in ("ed25519", "secp256k1")
    ]
    return json.dumps(
        {
            "format": "custody-policy-v1",
            "version": 1,
            "approver_set_version": 1,
            "networks": {STELLAR_CHAIN: PASSPHRASE},
            "approvers": approver_entries(),
            "address_book": {},
            "cosigned": [],
            "governance": {"approvals": [{"group": GROUP, "threshold": 2}], "cool_down_s": 0},
            "deny": [],
            "allow": allow,
        }
    ).encode()


def _rule(
    name: str,
    *,
    chain: str,
    kind: str,
    vault: str = "*",
    asset: str = "native",
    fee_max: str = "0",
    people: int = 0,
) -> dict[str, object]:
    return {
        "id": name,
        "org": "*",
        "vault": vault,
        "key": "*",
        "chain": chain,
        "kind": kind,
        "asset": asset,
        "destinations": ["*"],
        "amount_max": "1000000",
        "fee_max": fee_max,
        "windows": [{"seconds": 86_400, "amount_max": str(2**62), "count_max": 2**31 - 1}],
        "hours": [],
        "approvals": [{"group": GROUP, "threshold": people}] if people else [],
        "cool_down_s": 0,
    }


class SignerStand:
    """One signer: its folder, its token, its process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "s.sock"
        self._token = create_token(folder / "hsm")
        (folder / "journal").mkdir()
        (folder / "policy.json").write_bytes(policy_document())
        (folder / "signer.toml").write_text(_config(folder, self._token))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Start the process; return the seconds until it had answered."""
        started = time.perf_counter()
        with (self.folder / "signer.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "signer.main", "--config", str(self.folder / "signer.toml")],
                env=self._environment(),
                stderr=log,
            )
        while True:
            try:
                self.ask(Health())
            except OSError:
                if self._process.poll() is not None:
                    raise RuntimeError((self.folder / "signer.log").read_text()) from None
                time.sleep(0.005)
            else:
                return time.perf_counter() - started

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def cpu_s(self) -> float:
        """Processor time of the process so far."""
        if self._process is None:
            return 0.0
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def connect(self) -> socket.socket:
        """A new connection."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.connect(str(self.socket))
        return connection

    def ask(self, request: Request) -> Response:
        """One request on a connection of its own."""
        with self.connect() as connection:
            send_frame(connection, dump(request))
            return load_response(receive_frame(connection))

    def create_key(self, vault: str, curve: str) -> KeyView:
        """A key of the bench's org."""
        made = self.ask(
            CreateKey(request_id=str(uuid4()), org="acme", vault=vault, curve=curve, label="bench")
        )
        assert isinstance(made, KeyView), made
        return made

    def register_keys(self, count: int) -> None:
        """Put so many keys into the journal of the stopped signer."""
        subprocess.run(
            [sys.executable, "-m", "bench.signer_stand", str(self.folder), str(count)],
            env=self._environment(),
            check=True,
        )

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "SOFTHSM2_CONF": str(self._token.conf)}


def _config(folder: Path, token: Token) -> str:
    return f"""
socket = "{folder}/s.sock"
socket_mode = "0600"
journal_dir = "{folder}/journal"
policy = "{folder}/policy.json"
[hsm]
module = "{token.module}"
module_sha256 = ""
token = "{token.label}"
pin_file = "{token.pin_file}"
sessions = 2
ceremony_keys = []
[limits]
connections = {CONNECTIONS + 2}
request_s = 10
idle_s = 600
[[peers]]
uid = {os.getuid()}
roles = ["requester", "operator"]
"""


def _register(folder: Path, count: int) -> None:
    config = load_config(folder / "signer.toml")
    pool = open_pool(config.hsm)
    record = Record.open(
        directory=config.journal_dir,
        mac=MacKey(pool),
        store=AnchorObject(pool),
        policy=config.policy.read_bytes(),
        clock=lambda: int(time.time()),
    )
    keys = KeyStore(pool)
    for number in range(count):
        made = keys.generate_wrapped()
        record.append(
            WrappedKeyCreated(
                request_id=str(uuid4()),
                key_id=secrets.token_hex(16),
                org="acme",
                vault=f"customers-{number % 100}",
                label=f"deposit-{number}",
                public_key=made.public_key,
                blob=made.blob,
                wrapping_key=made.wrapping_key,
                origin=BORN,
                rule="secp256k1",
                state="active",
                intent=b"",
                approvals=(),
            )
        )
        if number % 10 == 9:
            record.settle(record.newest)
    record.settle(record.newest)
    record.close()


if __name__ == "__main__":
    _register(Path(sys.argv[1]), int(sys.argv[2]))
