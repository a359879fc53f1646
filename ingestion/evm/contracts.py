"""Listed token contracts that change: the code behind a proxy, or the decimals that were frozen when the token was listed. Pure.

Nothing is stopped: an upgrade may be meant well. A person is told, and whether the token then moves as it says is judged by
`balances`, deposit by deposit.
Source: EIP-1967 (implementation slot, Upgraded event); ERC-20 (decimals).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from custody.chains.evm.abi import UPGRADED_TOPIC, topic_address
from custody.kernel.assetid import AssetId
from ingestion.model import Notice

Listed = Callable[[frozenset[str]], Awaitable[Mapping[str, int]]]
"""Which of these contracts (lower-case) are listed tokens, and with how many decimals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenState:
    """What a listed token's contract says at one block."""

    contract: str
    """Lower-case."""
    listed_decimals: int
    """As they were frozen when the token was listed."""
    decimals: int | None
    """As the contract says now; None where it was not asked or does not tell."""
    code_before: str
    """Implementation after the block below: the slot's word; empty where it was not asked."""
    code_after: str
    """Implementation after the block."""


def contract_of(asset: AssetId) -> str:
    """A token's contract in lower case; empty for ether."""
    return asset.reference.partition(":")[2].lower()


async def nothing_listed(_contracts: frozenset[str]) -> Mapping[str, int]:
    """For sources that have no list of tokens."""
    return {}


def upgraded(logs: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Contracts that say that their implementation changed, each with the newest, in lower case."""
    return {
        str(log["address"]).lower(): topic_address(log["topics"][1])
        for log in logs
        if len(log.get("topics") or []) == 2 and log["topics"][0] == UPGRADED_TOPIC
    }


def alarms(said: Mapping[str, str], told: Iterable[TokenState]) -> list[Notice]:
    """What a person should see of these listed tokens."""
    found = []
    for each in told:
        if each.contract in said or each.code_before != each.code_after:
            found.append(
                _notice(
                    "token_upgraded",
                    each.contract,
                    each.code_before,
                    said.get(each.contract, each.code_after),
                )
            )
        if each.decimals is not None and each.decimals != each.listed_decimals:
            found.append(
                _notice(
                    "token_decimals_changed", each.contract, str(each.listed_decimals), str(each.decimals)
                )
            )
    return found


def _notice(code: str, contract: str, reported: str, found: str) -> Notice:
    return Notice(code=code, account="", asset=contract, reported=reported, found=found)
