"""What of gathered, proved blocks concerns us: movements, compared with balances, and what they left of our accounts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from custody.chains.evm.abi import parse_quantity
from custody.chains.evm.address import checksum
from custody.kernel.assetid import AssetId, ChainId
from ingestion.evm import balances, contracts, holders
from ingestion.evm.encoding import DEPOSIT
from ingestion.evm.errors import FeeUntold, ForgedBlock
from ingestion.evm.inner import InnerTransfer
from ingestion.evm.normalize import BLOCK, TokenTransfer, normalize, relevant_hashes
from ingestion.evm.receipts import Gathered
from ingestion.evm.state import StateReader
from ingestion.model import BlockFacts, Notice

_log = structlog.get_logger(__name__)


@dataclass(slots=True, kw_only=True)
class GatheredBlock:
    """One block as it is gathered."""

    block: dict[str, Any]
    receipts: list[dict[str, Any]] | None
    """All of them; None where none matters."""
    gathered: Gathered | None
    traces: list[Any] | None
    """As they came; None where none were asked for."""
    inner: list[InnerTransfer]
    transfers: list[TokenTransfer]
    notices: list[Notice]

    @property
    def logs(self) -> list[dict[str, Any]]:
        return [log for each in self.receipts or [] for log in each.get("logs") or []]


class Concerning:
    """Reads of blocks what they did to accounts of ours."""

    def __init__(
        self,
        chain: ChainId,
        state: StateReader,
        listed: contracts.Listed,
        *,
        wrapped_native: frozenset[str],
        l1_fee: bool,
    ) -> None:
        """`listed` tells which contracts are listed tokens; the rest as in the settings of the same names."""
        self._chain = chain
        self._state = state
        self._listed = listed
        self._wrapped = wrapped_native
        self._l1_fee = l1_fee

    async def read(
        self,
        reads: Sequence[GatheredBlock],
        ours: Sequence[frozenset[str]],
        also: Collection[tuple[str, AssetId]] = (),
    ) -> list[BlockFacts]:
        """What each block did to those of ours that it names, or that are asked about beside them.

        What is asked about all of the blocks is asked at once. Raises ForgedBlock, FeeUntold, StateUnavailable.
        """
        found = [self._normalized(each, names) for each, names in zip(reads, ours, strict=True)]
        upgraded = [contracts.upgraded(each.logs) for each in reads]
        moved = [self._moved(read, names) for read, names in zip(reads, ours, strict=True)]
        asked = {contracts.contract_of(asset) for _, asset in also if not asset.is_native}
        concerned = frozenset(asked).union(*upgraded, *moved)
        listed = await self._listed(concerned) if concerned else {}
        found = await self._with_balances(reads, found, ours, also, listed)
        found = await self._with_alarms(reads, found, upgraded, moved, listed)
        for read, facts in zip(reads, found, strict=True):
            for each in facts.notices[len(read.notices) :]:
                _log.error(
                    f"ingestion.{each.code}",
                    chain=self._chain,
                    height=facts.ref.height,
                    account=each.account,
                    asset=each.asset,
                    reported=each.reported,
                    found=each.found,
                )
        return found

    async def _with_balances(
        self,
        reads: Sequence[GatheredBlock],
        found: list[BlockFacts],
        ours: Sequence[frozenset[str]],
        also: Collection[tuple[str, AssetId]],
        listed: Mapping[str, int],
    ) -> list[BlockFacts]:
        """The facts compared with balances, and what the block left of ours."""
        places = [place for place, names in enumerate(ours) if names]
        questions = [
            list(dict.fromkeys((*balances.questions(self._chain, found[place], ours[place]), *also)))
            for place in places
        ]
        readings = await self._state.readings(
            [(reads[place].block, asked) for place, asked in zip(places, questions, strict=True)]
        )
        for place, told in zip(places, readings, strict=True):
            facts = balances.compare(self._chain, found[place], told)
            tokens = {each.asset for each in told if contracts.contract_of(each.asset) in listed}
            found[place] = replace(facts, state=holders.read_state(facts, told, tokens))
        return found

    def _normalized(self, read: GatheredBlock, ours: frozenset[str]) -> BlockFacts:
        wanted = self._wanted(read, ours)
        receipts = {
            str(each["transactionHash"]).lower(): each
            for each in read.receipts or []
            if str(each["transactionHash"]).lower() in wanted
        }
        if len(receipts) != len(wanted):
            raise ForgedBlock(block=read.block.get("hash"), what="a receipt is missing")
        self._demand_whole_fees(read.block, receipts, ours)
        facts = normalize(self._chain, read.block, receipts, ours, inner=read.inner, wrapped=self._wrapped)
        return replace(facts, notices=tuple(read.notices))

    def _wanted(self, read: GatheredBlock, ours: frozenset[str]) -> set[str]:
        return set(relevant_hashes(read.block, read.transfers, ours, read.inner)) if ours else set()

    def _moved(self, read: GatheredBlock, ours: frozenset[str]) -> set[str]:
        """Contracts whose tokens moved in transactions that concern us."""
        wanted = self._wanted(read, ours)
        return {each.contract for each in read.transfers if each.tx_hash in wanted}

    async def _with_alarms(
        self,
        reads: Sequence[GatheredBlock],
        found: Sequence[BlockFacts],
        upgraded: Sequence[Mapping[str, str]],
        moved: Sequence[set[str]],
        listed: Mapping[str, int],
    ) -> list[BlockFacts]:
        """The facts with what is to be told of listed contracts that changed or moved for us."""
        if not any(upgraded) and not any(moved):
            return list(found)
        told = await self._state.tokens(
            [
                (
                    read.block,
                    {name: decimals for name, decimals in listed.items() if name in said or name in of_block},
                    of_block,
                )
                for read, said, of_block in zip(reads, upgraded, moved, strict=True)
            ]
        )
        return [
            replace(facts, notices=(*facts.notices, *contracts.alarms(said, of_block)))
            for facts, said, of_block in zip(found, upgraded, told, strict=True)
        ]

    def _demand_whole_fees(
        self, block: Mapping[str, Any], receipts: Mapping[str, Mapping[str, Any]], ours: frozenset[str]
    ) -> None:
        """Raises FeeUntold where `l1_fee` is set and a receipt of our own transaction lacks it: no hash holds that field."""
        if not self._l1_fee:
            return
        for tx in block["transactions"]:
            receipt = receipts.get(str(tx["hash"]).lower())
            if receipt is None or parse_quantity(BLOCK, tx.get("type") or "0x0") == DEPOSIT:
                continue
            if checksum(str(tx["from"])) in ours and receipt.get("l1Fee") is None:
                raise FeeUntold(chain=self._chain, tx_hash=tx["hash"])
