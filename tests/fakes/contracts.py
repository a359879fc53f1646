"""The contracts of tests/contracts on a chain: deployed and called by an outsider."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eth_abi import encode

from custody.chains.evm.address import checksum, keccak256
from devnet.evm import Mined, Outsider, OutsiderError

_FOLDER = Path(__file__).parent.parent / "contracts"


async def deploy(outsider: Outsider, name: str, *args: Any, value: int = 0) -> str:
    """Deploy a contract. Returns its address in EIP-55."""
    artefact = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    kinds = [
        each["type"] for part in artefact["abi"] if part["type"] == "constructor" for each in part["inputs"]
    ]
    mined = await outsider.send(
        {"data": artefact["bytecode"] + encode(kinds, args).hex(), "value": hex(value)}
    )
    if mined.contract is None:
        raise OutsiderError("the node reported no contract address")
    return checksum(mined.contract)


async def invoke(outsider: Outsider, contract: str, signature: str, *args: Any, value: int = 0) -> Mined:
    """Call a function, named with its types: `transfer(address,uint256)`."""
    return await outsider.send({"to": contract, "data": call_data(signature, *args), "value": hex(value)})


def call_data(signature: str, *args: Any) -> str:
    """Selector and arguments. Source: Solidity ABI specification."""
    kinds = [each for each in signature.partition("(")[2][:-1].split(",") if each]
    return "0x" + (keccak256(signature.encode())[:4] + encode(kinds, args)).hex()
