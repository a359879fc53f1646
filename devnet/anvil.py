"""anvil, a real EVM node for development: one block per second, accounts that hold test ether, state kept over restarts."""

from pathlib import Path

from devnet.ports import HOST
from devnet.probes import json_rpc_ok
from devnet.processes import ProcessSpec, StackError

CHAIN_ID = 31337
MNEMONIC = "test test test test test test test test test test test junk"
"""The development mnemonic that everybody knows: whatever it controls is worthless on purpose."""
FIRST_TOKEN = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
"""Where the first contract of the first account lies: an address follows from its maker and the nonce. The demo's token."""


def anvil_spec(root: Path, state: Path, port: int, *, block_time_s: int | None = 1) -> ProcessSpec:
    """How anvil is started; `block_time_s` None mines each transaction at once.

    Finality: with one slot per epoch the tag "safe" is one block and "finalized" two blocks behind the tip. Raises StackError.
    """
    folder = state / "anvil"
    folder.mkdir(parents=True, exist_ok=True)
    pace = () if block_time_s is None else ("--block-time", str(block_time_s))
    return ProcessSpec(
        name="anvil",
        argv=(
            *(str(find_anvil(root)), "--host", HOST, "--port", str(port), "--chain-id", str(CHAIN_ID)),
            *(
                "--mnemonic",
                MNEMONIC,
                "--slots-in-an-epoch",
                "1",
                "--state",
                str(folder / "state.json"),
                *pace,
            ),
            "--preserve-historical-states",
        ),
        env={"HOME": str(folder), "LC_ALL": "C"},
        cwd=folder,
        ready=json_rpc_ok(port, "eth_blockNumber"),
        ready_timeout_s=30.0,
    )


def url(port: int) -> str:
    """The node's JSON-RPC address."""
    return f"http://{HOST}:{port}"


def find_anvil(root: Path) -> Path:
    """The native program inside the npm package, so that no Node.js runs at run time. Raises StackError."""
    found = sorted((root / "devnet" / "npm" / "node_modules" / "@foundry-rs").glob("anvil-*/bin/anvil"))
    if not found:
        raise StackError("anvil is missing: run `make setup` (it needs Node.js 18 or newer with npm).")
    return found[0]
