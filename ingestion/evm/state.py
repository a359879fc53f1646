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
        self, questions: Sequence[tuple[Mapping[str, Any], Sequence[tuple[str, AssetId]]]]
    ) -> list[list[Reading]]:
        """Each balance before and after its block, of several blocks. Raises StateUnavailable.

        A token whose call ran and failed tells nothing, and that is an answer. Any other refusal is the node's and is raised: the
        block is asked for again, for what was merely not told must not pass for a lie.
        """
        asked = [
            [_balance_call(account, asset, place) for account, asset in of_block for place in _sides(block)]
            for block, of_block in questions
        ]
        answers = await self._each_of(asked)
        return [
            self._read(block, of_block, calls, told)
            for (block, of_block), calls, told in zip(questions, asked, answers, strict=True)
        ]

    def _read(
        self,
        block: Mapping[str, Any],
        questions: Sequence[tuple[str, AssetId]],
        asked: Sequence[tuple[str, Any]],
        answers: Sequence[Any],
    ) -> list[Reading]:
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
        self, questions: Sequence[tuple[Mapping[str, Any], Mapping[str, int], set[str]]]
    ) -> list[list[TokenState]]:
        """The state of listed contracts after several blocks: block, contracts with decimals, and which of them moved for us.

        Those that did not move are not asked: their event is enough."""
        asked: list[list[tuple[str, Any]]] = []
        for block, listed, moved in questions:
            below, above = _sides(block)
            calls: list[tuple[str, Any]] = []
            for contract in sorted(set(listed) & moved):
                calls.append((CALL, [{"to": contract, "data": DECIMALS_CALL, "gas": CALL_GAS}, above]))
                calls += [(SLOT, [contract, IMPLEMENTATION_SLOT, place]) for place in (below, above)]
            asked.append(calls)
        answers = await self._each_of(asked)
        return [
            _states(listed, sorted(set(listed) & moved), told)
            for (_, listed, moved), told in zip(questions, answers, strict=True)
        ]

    async def _each_of(self, asked: Sequence[Sequence[tuple[str, Any]]]) -> list[list[Any]]:
        """The answers to lists of calls, put together into as few requests as they fit in."""
        answers = iter(await self._each([call for calls in asked for call in calls]))
        return [[next(answers) for _ in calls] for calls in asked]

    async def _each(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        answers: list[Any] = []
        for start in range(0, len(calls), BATCH):
            answers += await self._rpc.call_each(calls[start : start + BATCH])
        return answers


def _sides(block: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, str]]:
    """Before and after the block."""
    return {"blockHash": block["parentHash"]}, {"blockHash": block["hash"]}


def _states(listed: Mapping[str, int], asked: Sequence[str], answers: Sequence[Any]) -> list[TokenState]:
    """`answers`: three for each contract that was asked, in order."""
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
