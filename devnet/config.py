"""What the local stack is made of: its folders and ports, and the configuration files that the product reads from them."""

from __future__ import annotations

import base64
import json
import secrets
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


def write_product_config(places: Places, ends: Endpoints, api_port: int, intent_valid_s: int) -> None:
    """The TOML file that every product process reads. Limits fit test money and nothing else."""
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
        *("", "[[chains]]", f'id = "{STELLAR_CHAIN}"', 'kind = "stellar"'),
        *(f'rpc_url = "{ends.stellar_rpc_url}"', f'network_passphrase = "{STELLAR_PASSPHRASE}"'),
        *("confirmations = 0", "poll_interval_s = 0.5", "max_fee_stroops = 100000", "audit_ledgers = true"),
        *("tx_valid_s = 60", "tx_valid_ledgers = 40"),
        *("", "[[chains]]", f'id = "{EVM_CHAIN}"', 'kind = "evm"', f'rpc_url = "{ends.evm_rpc_url}"'),
        *(f"chain_id = {anvil.CHAIN_ID}", "confirmations = 2", "poll_interval_s = 0.5"),
        *("gas_limit_native = 21000", "gas_limit_erc20 = 100000"),
        *("max_fee_per_gas_wei = 100000000000", "max_priority_fee_per_gas_wei = 2000000000"),
        *("tx_valid_s = 120", f'ws_url = "ws{ends.evm_rpc_url.removeprefix("http")}"'),
    ]
    write_private(places.config, "\n".join(lines) + "\n")


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


def policy_document(approvers: dict[str, str], stellar_passphrase: str) -> str:
    """The signer's policy: two of three people approve every payment within caps that fit test money, all three what leaves a
    cold vault. Machines make keys, and may sweep inward and send gas to our own addresses."""
    people = [
        {"id": name, "keys": [{"type": "ed25519", "public_key": key}], "groups": ["treasury"]}
        for name, key in approvers.items()
    ]
    document = {
        "format": "custody-policy-v1",
        "version": 1,
        "approver_set_version": 1,
        "networks": {STELLAR_CHAIN: stellar_passphrase},
        "approvers": people,
        "address_book": {},
        "cosigned": [],
        "governance": {"approvals": _TWO_OF_THREE, "cool_down_s": 60},
        "deny": [],
        "allow": [
            *(_cold_rule(chain) for chain in (STELLAR_CHAIN, EVM_CHAIN)),
            _inward_rule("ether-sweeps", "deposit", "omnibus", "evm_sweep", "native", 10**21),
            _inward_rule("token-sweeps", "deposit", "omnibus", "evm_erc20_sweep", anvil.FIRST_TOKEN, 10**15),
            _inward_rule("gas-for-sweeps", "gas", "deposit", "evm_sweep", "native", 10**18),
            _inward_rule("gas-filling", "omnibus", "gas", "evm_sweep", "native", 10**18),
            _rule("ether-moves", EVM_CHAIN, "evm_sweep", 10**21, 10**17),
            _rule("token-moves", EVM_CHAIN, "evm_erc20_sweep", 10**15, 10**17),
            _rule("stellar-payments", STELLAR_CHAIN, "stellar_payment", 10**15, 100_000),
            _rule("stellar-trustlines", STELLAR_CHAIN, "stellar_change_trust", 2**63 - 1, 100_000),
            _rule("stellar-anchors", STELLAR_CHAIN, "stellar_anchor", 0, 100_000),
            _rule("stellar-memos", STELLAR_CHAIN, "stellar_memo_required", 0, 100_000),
            _rule("ether-payments", EVM_CHAIN, "evm_transfer", 10**21, 10**17),
            _rule("token-payments", EVM_CHAIN, "evm_erc20_transfer", 10**15, 10**17),
            _rule("nonce-cancels", EVM_CHAIN, "evm_cancel", 0, 10**17),
            _rule("nonce-fills", EVM_CHAIN, "evm_fill", 0, 10**17),
            _deposit_key_rule(),
            *(_key_rule(curve) for curve in ("ed25519", "secp256k1")),
            *(_key_state_rule(curve) for curve in ("ed25519", "secp256k1")),
        ],
    }
    return json.dumps(document, indent=2)


_TWO_OF_THREE = [{"group": "treasury", "threshold": 2}]


def _rule(name: str, chain: str, kind: str, amount_max: int, fee_max: int) -> dict[str, object]:
    return {
        "id": name,
        "org": "*",
        "vault": "*",
        "key": "*",
        "chain": chain,
        "kind": kind,
        "asset": "*",
        "destinations": ["*"],
        "amount_max": str(amount_max),
        "fee_max": str(fee_max),
        "windows": [],
        "hours": [],
        "approvals": _TWO_OF_THREE,
        "cool_down_s": 0,
    }


def _cold_rule(chain: str) -> dict[str, object]:
    """Whatever leaves a cold vault is asked of all three. Before the rules for everybody: the first that covers decides."""
    everybody = [{"group": "treasury", "threshold": 3}]
    return _rule(f"cold-{chain.partition(':')[0]}", chain, "*", 10**21, 10**17) | {
        "vault": "cold",
        "approvals": everybody,
    }


def _inward_rule(
    name: str, vault: str, into: str, kind: str, asset: str, amount_max: int
) -> dict[str, object]:
    """Nobody is asked about money that goes from one vault of ours to this other one: the signer looks its key up."""
    window = {"seconds": 3600, "amount_max": str(amount_max), "count_max": 10_000}
    inward = {"vault": vault, "asset": asset, "destinations": [f"vault:{into}"], "windows": [window]}
    return _rule(name, EVM_CHAIN, kind, amount_max, 10**17) | inward | {"approvals": []}


def _key_rule(curve: str) -> dict[str, object]:
    """Keys are made on demand, but no machine may fill the token with them."""
    window = {"seconds": 3600, "amount_max": "0", "count_max": 1000}
    automatic = {"asset": "none", "windows": [window], "approvals": []}
    return _rule(f"{curve}-keys", curve, "key_create", 0, 0) | automatic


def _deposit_key_rule() -> dict[str, object]:
    """Keys for deposit addresses are made ahead, so many that they must not use up what other keys need."""
    window = {"seconds": 3600, "amount_max": "0", "count_max": 20_000}
    automatic = {"asset": "none", "windows": [window], "approvals": [], "vault": "deposit"}
    return _rule("deposit-keys", "secp256k1", "key_create", 0, 0) | automatic


def _key_state_rule(curve: str) -> dict[str, object]:
    return _rule(f"{curve}-key-states", curve, "key_state", 0, 0) | {"asset": "none"}
