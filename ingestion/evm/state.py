"""Balances and contract state before and after one block, asked for by block hash, so that they are of that block or of none.

Source: EIP-1898 (block parameter by hash).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from custody.chains.errors import RpcRefused, RpcUnreadable
from custody.chains.evm.abi import (
    DECIMALS_CALL,
    IMPLEMENTATION_SLOT,
    balance_of_call,
    parse_quantity,
    parse_word,
)
from custody.chains.jsonrpc import JsonRpc
from custody.kernel.assetid import AssetId, ChainId
from ingestion.errors import StateUnavailable
from ingestion.evm.balances import Reading
from ingestion.evm.contracts import TokenState

CALL = "eth_call"
BALANCE = "eth_getBalance"
SLOT = "eth_getStorageAt"
CALL_GAS = hex(2_000_000)
"""No token needs more to tell a balance; one that burns more tells nothing."""
_CONTRACTS_FAULT = (
    "revert",
    "out of gas",
    "outofgas",
    "opcode",
    "stack",
    "jump",
    "execution",
    "intrinsic gas",
)
"""Words of geth, reth, nethermind and anvil for a call that ran and failed. Other words prove nothing about the contract."""
BATCH = 100
"""Questions of one request."""

_log = structlog.get_logger(__name__)


class StateReader:
    """What a node knows of accounts and contracts at a block."""

    def __init__(self, chain: ChainId, rpc: JsonRpc, *, refuse: bool) -> None:
        """`refuse`: a block whose state the node has no more is refused; else it is told, and booked without a comparison."""
        self._chain = chain
        self._rpc = rpc
        self._refuse = refuse

    async def readings(
        self, block: Mapping[str, Any], questions: Sequence[tuple[str, AssetId]]
    ) -> list[Reading]:
        """Each balance before and after the block. Raises StateUnavailable.

        A token whose call ran and failed tells nothing, and that is an answer. Any other refusal is the node's and is raised: the
        block is asked for again, for what was merely not told must not pass for a lie.
        """
        places = [{"blockHash": block["parentHash"]}, {"blockHash": block["hash"]}]
        asked = [_balance_call(account, asset, place) for account, asset in questions for place in places]
        answers = await self._each(asked)
        if any(
            isinstance(answer, RpcRefused)
            for (method, _), answer in zip(asked, answers, strict=True)
            if method == BALANCE
        ):
            if self._refuse:
                raise StateUnavailable(chain=self._chain, block=block["hash"])
            _log.error("ingestion.balances_unread", chain=self._chain, block=block["hash"])
            return []
        for answer in answers:
            if isinstance(answer, RpcRefused) and not _ran_and_failed(answer):
                raise answer
        amounts = [_amount(method, answer) for (method, _), answer in zip(asked, answers, strict=True)]
        return [
            Reading(account=account, asset=asset, before=amounts[2 * place], after=amounts[2 * place + 1])
            for place, (account, asset) in enumerate(questions)
        ]

    async def balances(self, block_hash: str, questions: Sequence[tuple[str, AssetId]]) -> list[int | None]:
        """Each balance after one block; None where a token's contract does not tell. Raises StateUnavailable, like `readings`."""
        asked = [_balance_call(account, asset, {"blockHash": block_hash}) for account, asset in questions]
        answers = await self._each(asked)
        for (method, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, RpcRefused) and (method == BALANCE or not _ran_and_failed(answer)):
                raise StateUnavailable(chain=self._chain, block=block_hash, reason=answer.rpc_message)
        return [_amount(method, answer) for (method, _), answer in zip(asked, answers, strict=True)]

    async def tokens(
        self, block: Mapping[str, Any], listed: Mapping[str, int], moved: set[str]
    ) -> list[TokenState]:
        """The state of listed contracts. Those that did not move for us are not asked: their event is enough."""
        asked = sorted(set(listed) & moved)
        places = [{"blockHash": block["parentHash"]}, {"blockHash": block["hash"]}]
        calls: list[tuple[str, Any]] = []
        for contract in asked:
            calls.append((CALL, [{"to": contract, "data": DECIMALS_CALL, "gas": CALL_GAS}, places[1]]))
            calls += [(SLOT, [contract, IMPLEMENTATION_SLOT, place]) for place in places]
        answers = await self._each(calls)
        told = {
            contract: TokenState(
                contract=contract,
                listed_decimals=listed[contract],
                decimals=_amount(CALL, answers[3 * place]),
                code_before=_slot(answers[3 * place + 1]),
                code_after=_slot(answers[3 * place + 2]),
            )
            for place, contract in enumerate(asked)
        }
        return [
            told.get(contract)
            or TokenState(
                contract=contract, listed_decimals=decimals, decimals=None, code_before="", code_after=""
            )
            for contract, decimals in sorted(listed.items())
        ]

    async def _each(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(calls), BATCH):
            answers += await self._rpc.call_each(calls[start : start + BATCH])
        return answers


def _balance_call(account: str, asset: AssetId, place: Mapping[str, str]) -> tuple[str, Any]:
    if asset.is_native:
        return BALANCE, [account, place]
    contract = asset.reference.partition(":")[2]
    return CALL, [{"to": contract, "data": balance_of_call(account), "gas": CALL_GAS}, place]


def _amount(method: str, answer: Any) -> int | None:
    """The number, or None where a contract reverted or answered no word."""
    if method == BALANCE:
        return parse_quantity(method, answer)
    if isinstance(answer, RpcRefused):
        return None
    try:
        return parse_word(method, answer)
    except RpcUnreadable:
        return None


def _ran_and_failed(refusal: RpcRefused) -> bool:
    words = refusal.rpc_message.lower()
    return refusal.rpc_code == 3 or any(each in words for each in _CONTRACTS_FAULT)


def _slot(answer: Any) -> str:
    """The implementation's address in the slot's word; empty where the node did not tell or there is none."""
    if not isinstance(answer, str) or len(answer) != 66:
        return ""
    return "" if int(answer, 16) == 0 else "0x" + answer[-40:].lower()
