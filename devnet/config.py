"""What the local stack is made of: its folders and ports, and the configuration files that the product reads from them."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from devnet import anvil
from devnet.ports import HOST
from devnet.secrets import write_private

ROOT = Path(__file__).resolve().parent.parent
"""The checkout."""
STELLAR_CHAIN = "stellar:devnet"
EVM_CHAIN = f"eip155:{anvil.CHAIN_ID}"
STELLAR_PASSPHRASE = "Custody Devnet ; 2026"
APPROVERS = ("alice", "bob", "carol")
"""The three people of the treasury; two of them must approve."""
FIXED_PORTS = {
    "postgres": 15432,
    "valkey": 16379,
    "anvil": 18545,
    "stellar": 18000,
    "bank": 18100,
    "api": 18080,
}
"""Where people find the servers of `custody up` when nothing else is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The stack's files, all below one state folder."""

    state: Path
    """Absolute."""

    @property
    def config(self) -> Path:
        """The product's configuration (CUSTODY_CONFIG); holds the database password, so only its owner reads it."""
        return self.state / "custody.toml"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.state / "logs"

    @property
    def record(self) -> Path:
        """Which processes run."""
        return self.state / "stack.json"

    @property
    def signer(self) -> Path:
        """Everything of the signer: its configuration, policy, journal, token and socket. Belongs to its user."""
        return self.state / "signer"

    @property
    def approvers(self) -> Path:
        """The approvers' own keys, NAME.pem; on a real site these never meet the server."""
        return self.state / "approvers"

    @property
    def bank_secret(self) -> Path:
        """The key under which the sandbox bank signs its callbacks."""
        return self.state / "bank.secret"

    @property
    def webhook_key(self) -> Path:
        """The key under which endpoints' secrets are sealed in the database."""
        return self.state / "webhooks.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where everything of a stack is found."""

    api_url: str
    evm_rpc_url: str
    stellar_rpc_url: str
    bank_url: str
    redis_url: str
    admin_dsn: str
    """The database as its superuser: for provisioning and for looking inside in tests."""
    app_dsn: str
    """The database as the product's role."""
    signer_socket: Path
    config: Path
    """The file for CUSTODY_CONFIG."""


def local_url(port: int) -> str:
    """An address on this machine."""
    return f"http://{HOST}:{port}"


def write_product_config(
    places: Places,
    ends: Endpoints,
    api_port: int,
    intent_valid_s: int,
    chains: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """The TOML file that every product process reads. Limits fit test money and nothing else.

    `chains` says per chain what shall be different from what the local stack has.
    """
    bank_secret = places.bank_secret.read_text(encoding="ascii").strip()
    webhook_key = places.webhook_key.read_text(encoding="ascii").strip()
    lines = [
        "# Written by the local stack. Development only.",
        'environment = "development"',
        f"intent_valid_s = {intent_valid_s}",
        "sweep_interval_s = 0.5",
        *("", "[database]", f'url = "{ends.app_dsn}"', "pool_size = 5"),
        *("", "[redis]", f'url = "{ends.redis_url}"'),
        *("", "[signer]", f'socket = "{ends.signer_socket}"', "timeout_s = 10"),
        *("", "[api]", f'host = "{HOST}"', f"port = {api_port}", "introspection = true"),
        f'public_url = "http://{HOST}:{api_port}"',
        *("", "[rails.sandbox]", 'kind = "sandbox"', f'base_url = "{ends.bank_url}"'),
        *(f'callback_secret = "{bank_secret}"', "timeout_s = 3"),
        *("", "[webhooks]", f'secret_keys = ["{webhook_key}"]', "allow_http = true"),
        'allowed_networks = ["127.0.0.0/8", "::1/128"]',
        *("", "[treasury]", "interval_s = 1"),
    ]
    for chain in (_stellar_settings(ends), _evm_settings(ends)):
        changed = chain | dict((chains or {}).get(str(chain["id"]), {}))
        lines += ["", "[[chains]]", *(f"{name} = {_toml(value)}" for name, value in changed.items())]
    write_private(places.config, "\n".join(lines) + "\n")


def _stellar_settings(ends: Endpoints) -> dict[str, object]:
    return {
        "id": STELLAR_CHAIN,
        "kind": "stellar",
        "rpc_url": ends.stellar_rpc_url,
        "network_passphrase": STELLAR_PASSPHRASE,
        "confirmations": 0,
        "poll_interval_s": 0.5,
        "max_fee_stroops": 100_000,
        "audit_ledgers": True,
        "tx_valid_s": 60,
        "tx_valid_ledgers": 40,
    }


def _evm_settings(ends: Endpoints) -> dict[str, object]:
    return {
        "id": EVM_CHAIN,
        "kind": "evm",
        "rpc_url": ends.evm_rpc_url,
        "chain_id": anvil.CHAIN_ID,
        "confirmations": 2,
        "poll_interval_s": 0.5,
        "gas_limit_native": 21_000,
        "gas_limit_erc20": 100_000,
        "max_fee_per_gas_wei": 100 * 10**9,
        "max_priority_fee_per_gas_wei": 2 * 10**9,
        "tx_valid_s": 120,
        "ws_url": f"ws{ends.evm_rpc_url.removeprefix('http')}",
    }


def _toml(value: object) -> str:
    """A value of TOML: text, number, truth, or a table of such."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{name} = {_toml(each)}" for name, each in value.items()) + " }"
    return json.dumps(value)


def write_webhook_key(places: Places) -> None:
    """Base64 of 32 random bytes. Kept when it exists."""
    if not places.webhook_key.exists():
        write_private(places.webhook_key, base64.b64encode(secrets.token_bytes(32)).decode())


def write_bank_secret(places: Places) -> None:
    """A Standard Webhooks secret: `whsec_` and base64 of 32 random bytes. Kept when it exists."""
    if not places.bank_secret.exists():
        write_private(places.bank_secret, "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())


def create_approvers(places: Places) -> dict[str, str]:
    """The approvers' public keys in hex by name; their private keys are made when they are new."""
    places.approvers.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {name: _approver_key(places.approvers / f"{name}.pem") for name in APPROVERS}


def _approver_key(path: Path) -> str:
    if not path.exists():
        born = Ed25519PrivateKey.generate()
        pem = born.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        write_private(path, pem.decode("ascii"))
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return public.hex()
