"""Strangers with software keys who pay in, on both chains and by bank, through whatever becomes of the nodes."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from dataclasses import dataclass, field

import httpx
from stellar_sdk import IdMemo, Keypair, MuxedAccount, Payment

from devnet.config import EVM_CHAIN, STELLAR_CHAIN
from devnet.evm import Outsider, OutsiderError
from devnet.stellar.outsider import OutsiderFailed, units_text
from devnet.story.cast import Cast
from devnet.story.client import StoryError
from devnet.story.fiat import OUR_IBAN
from devnet.story.outside import Outside

AWAY = (httpx.HTTPError, OutsiderError, OutsiderFailed, StoryError, OSError)
"""What a stranger meets where somebody is down; he tries again."""
REMEMBERED = 400
"""Transactions that are offered again after a reorganisation."""
XLM_MOST, ETHER_MOST, TOKENS_MOST = 10**7, 10**15, 10**5


@dataclass(slots=True, kw_only=True)
class Strangers:
    """They pay until told to stop."""

    cast: Cast
    outside: Outside
    chance: random.Random
    customers: list[str]
    """Their names in the cast."""
    stop: asyncio.Event
    paid: Counter[str] = field(default_factory=Counter)
    _raw: list[str] = field(default_factory=list)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def evm(self) -> Outsider:
        """Their way to anvil, past whatever stands before it for the product."""
        return self.outside.evm

    async def pay_stellar(self, each_ledger: int) -> None:
        """So many payments in each ledger, by muxed address or by memo."""
        while not self.stop.is_set():
            with contextlib.suppress(*AWAY):
                await asyncio.to_thread(self._one_envelope, self.chance.randint(1, each_ledger))

    async def pay_evm(self, each_time: int) -> None:
        """So many payments, ether and tokens, and again."""
        while not self.stop.is_set():
            async with self._turn:
                with contextlib.suppress(*AWAY):
                    for _ in range(self.chance.randint(1, each_time)):
                        await self._one_transaction()
            await asyncio.sleep(self.chance.uniform(0.5, 1.0))

    async def pay_by_bank(self, references: dict[str, str], every_s: float) -> None:
        """Euros with a customer's reference."""
        while not self.stop.is_set():
            reference = references[self.chance.choice(sorted(references))]
            with contextlib.suppress(*AWAY):
                await self.outside.pay_euros(OUR_IBAN, self.chance.randint(100, 9000), reference)
                self.paid["fiat"] += 1
            await asyncio.sleep(every_s)

    async def reorganise(self, depth: int) -> None:
        """The newest blocks are replaced by empty ones. What strangers had in them they offer again."""
        async with self._turn:
            with contextlib.suppress(*AWAY):
                await self.evm.call("anvil_reorg", depth, [])
            await self.offer_again()

    async def offer_again(self) -> None:
        """Everything of late; what is on chain is refused."""
        for raw in self._raw[-REMEMBERED:]:
            with contextlib.suppress(*AWAY):
                await self.evm.call("eth_sendRawTransaction", raw)

    async def _one_transaction(self) -> None:
        to = self.cast.names[f"{self.chance.choice(self.customers)} {EVM_CHAIN}"]
        sent: dict[str, str] = {"from": await self.evm.address(), "gas": hex(100_000)}
        if self.chance.random() < 0.5:
            sent |= {"to": to, "value": hex(self.chance.randint(1, ETHER_MOST))}
        else:
            word = f"{int(to, 16):064x}{self.chance.randint(1, TOKENS_MOST):064x}"
            sent |= {"to": self.outside.token, "data": "0xa9059cbb" + word}
        # Dear enough for every spike: it is the product's bids that are looked at.
        sent |= {"maxFeePerGas": hex(2000 * 10**9), "maxPriorityFeePerGas": hex(10**9)}
        tx_hash = await self.evm.call("eth_sendTransaction", sent)
        self._raw.append(await self.evm.call("eth_getRawTransactionByHash", tx_hash))
        self.paid[EVM_CHAIN] += 1

    def _one_envelope(self, count: int) -> None:
        """One transaction with so many payments; the same envelope until a ledger has it."""
        payer, stellar = self.outside.payer, self.outside.stellar
        if self.chance.random() < 0.2:
            name = self.chance.choice(self.customers)
            account, memo = (
                self.cast.names[f"account {STELLAR_CHAIN}"],
                IdMemo(int(self.cast.names[f"{name} {STELLAR_CHAIN} memo"])),
            )
            operations = [self._payment(account)]
        else:
            memo = None
            names = [self.chance.choice(self.customers) for _ in range(count)]
            operations = [self._payment(self.cast.names[f"{name} {STELLAR_CHAIN}"]) for name in names]
        stellar.send(payer, operations, memo=memo)
        self.paid[STELLAR_CHAIN] += len(operations)

    def _payment(self, destination: str) -> Payment:
        is_usdc = self.chance.random() < 0.2
        amount = self.chance.randint(1, XLM_MOST)
        asset = self.outside.usdc.asset if is_usdc else self.outside.usdc.asset.native()
        return Payment(destination, asset, units_text(amount))


@dataclass(frozen=True, slots=True, kw_only=True)
class Payees:
    """Where withdrawals go."""

    stellar: tuple[Keypair, ...]
    evm: tuple[str, ...]

    def choose(self, chance: random.Random, code: str) -> dict[str, object]:
        """The fields of a request that say who is paid: by address, by muxed address, or with a memo."""
        if code != "XLM":
            return {"destination": chance.choice(self.evm)}
        account = chance.choice(self.stellar).public_key
        match chance.choice(("plain", "muxed", "id", "text")):
            case "muxed":
                return {"destination": MuxedAccount(account, chance.getrandbits(40)).account_muxed}
            case "id":
                return {"destination": account, "memo": {"type": "id", "value": str(chance.getrandbits(50))}}
            case "text":
                return {
                    "destination": account,
                    "memo": {"type": "text", "value": f"order {chance.getrandbits(20)}"},
                }
            case _:
                return {"destination": account}
