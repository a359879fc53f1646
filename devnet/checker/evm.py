"""An EVM chain as its node tells it: every block's transactions, receipts and logs, over bare JSON-RPC."""

from __future__ import annotations

from typing import Any

import httpx

from devnet.checker.model import Chain, Payment

TRANSFER = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256 of Transfer(address,address,uint256). Source: ERC-20."""
BALANCE_OF = "0x70a08231"
AT_ONCE = 100
"""Blocks of one request."""


def read_evm(url: str, name: str, accounts: frozenset[str], tokens: dict[str, str]) -> Chain:
    """Everything up to the newest block. `tokens`: by the contract's lower-case address, the asset."""
    ours = {account.lower(): account for account in accounts}
    payments: list[Payment] = []
    sent: dict[str, bool] = {}
    fees = 0
    with httpx.Client(timeout=60, trust_env=False) as http:
        height = int(_call(http, url, [("eth_blockNumber", [])])[0], 16)
        for first in range(0, height + 1, AT_ONCE):
            heights = [hex(each) for each in range(first, min(first + AT_ONCE, height + 1))]
            blocks = _call(http, url, [("eth_getBlockByNumber", [each, True]) for each in heights])
            receipts = _call(http, url, [("eth_getBlockReceipts", [each]) for each in heights])
            for block, of_block in zip(blocks, receipts, strict=True):
                for tx, receipt in zip(block["transactions"], of_block, strict=True):
                    succeeded = receipt["status"] == "0x1"
                    if tx["from"] in ours:
                        sent[tx["hash"]] = succeeded
                        fees += int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
                    if succeeded:
                        payments += _ether(tx, f"{name}/native", ours)
                        payments += _tokens(receipt, tokens, ours)
        balances = {
            (account, f"{name}/native"): int(found, 16)
            for account, found in zip(
                accounts,
                _call(http, url, [("eth_getBalance", [each, hex(height)]) for each in accounts]),
                strict=True,
            )
        }
        for contract, asset in tokens.items():
            asked = [
                ("eth_call", [{"to": contract, "data": BALANCE_OF + each[2:].lower().zfill(64)}, hex(height)])
                for each in accounts
            ]
            for account, found in zip(accounts, _call(http, url, asked), strict=True):
                balances[account, asset] = int(found, 16)
    return Chain(name=name, height=height, payments=tuple(payments), ours=sent, fees=fees, balances=balances)


def _ether(tx: Any, asset: str, ours: dict[str, str]) -> list[Payment]:
    amount = int(tx["value"], 16)
    if amount == 0 or tx["to"] is None or not {tx["from"], tx["to"]} & ours.keys():
        return []
    return [Payment(tx_hash=tx["hash"], asset=asset, source=tx["from"], destination=tx["to"], amount=amount)]


def _tokens(receipt: Any, tokens: dict[str, str], ours: dict[str, str]) -> list[Payment]:
    found = []
    for log in receipt["logs"]:
        asset = tokens.get(log["address"])
        if asset is None or log["topics"][0] != TRANSFER:
            continue
        source, destination = ("0x" + topic[-40:] for topic in log["topics"][1:3])
        if {source, destination} & ours.keys():
            found.append(
                Payment(
                    tx_hash=receipt["transactionHash"],
                    asset=asset,
                    source=source,
                    destination=destination,
                    amount=int(log["data"], 16),
                )
            )
    return found


def _call(http: httpx.Client, url: str, calls: list[tuple[str, list[Any]]]) -> list[Any]:
    """Several calls in one request, answered in their order. Raises ValueError where one is refused."""
    asked = [
        {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        for number, (method, params) in enumerate(calls)
    ]
    answers = {each["id"]: each for each in http.post(url, json=asked).raise_for_status().json()}
    refused = [each["error"] for each in answers.values() if "error" in each]
    if refused:
        raise ValueError(f"the node refused: {refused[0]}")
    return [answers[number]["result"] for number in range(len(calls))]
