"""A custody app whose customers withdraw all the time: within limits that ask nobody, and sometimes above them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field

from devnet.anvil import FIRST_TOKEN
from devnet.bank.ibans import (
    NEVER_TOLD,
    NORMAL,
    OUTAGE_FIRST,
    REFUSED,
    RETURNED,
    TOLD_OUT_OF_ORDER,
    TOLD_TWICE,
    sandbox_iban,
)
from devnet.policy import SMALL
from devnet.story.cast import Cast
from devnet.story.client import ApiRefused, Json, StoryError
from tests.soak.people import Payees

LARGE = {"XLM": SMALL["stellar_payment", "native"] + 1, "ETH": SMALL["evm_transfer", "native"] + 1}
"""Amounts that people have to approve."""
MOST = {
    "XLM": 10**6,
    "ETH": 10**13,
    "TUSD": min(10**3, SMALL["evm_erc20_transfer", FIRST_TOKEN]),
}
WINDOW_S = 15
"""How long approvers have for what nobody approves."""
BENEFICIARIES = (NORMAL, NORMAL, TOLD_TWICE, TOLD_OUT_OF_ORDER, RETURNED, REFUSED, NEVER_TOLD, OUTAGE_FIRST)


class AnotherAnswer(Exception):
    """The same request under the same key was answered with something else."""


@dataclass(slots=True, kw_only=True)
class Customers:
    """They ask until told to stop."""

    cast: Cast
    payees: Payees
    chance: random.Random
    names: list[str]
    stop: asyncio.Event
    asked: Counter[str] = field(default_factory=Counter)
    """By what came of the request itself."""

    async def withdraw(self, pause_s: float) -> None:
        """Small ones, one after the other."""
        while not self.stop.is_set():
            code = self.chance.choice(("XLM", "XLM", "ETH", "ETH", "TUSD"))
            await self._ask(code, self.chance.randint(1, MOST[code]))
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * pause_s)

    async def withdraw_much(self, pause_s: float) -> None:
        """Large ones: approved by two, vetoed, taken back, or left to lapse."""
        fates = ["approve", "cancel", "expire", "reject"]
        while not self.stop.is_set():
            await asyncio.sleep(self.chance.uniform(0.3, 1.0) * pause_s)
            code, fate = self.chance.choice(("XLM", "ETH")), fates[0]
            fates = [*fates[1:], fate]
            made = await self._ask(code, LARGE[code], expires_in_s=WINDOW_S if fate == "expire" else 0)
            if made is None:
                continue
            # An approver whose word comes too late is refused; what became of the withdrawal is looked at in the end.
            with contextlib.suppress(StoryError):
                if fate == "approve":
                    await self.cast.approve(made["id"], "alice", "bob")
                elif fate == "reject":
                    await self.cast.approve(made["id"], "carol", reject=True)
                elif fate == "cancel":
                    await self.cast.app.post(f"/v1/withdrawals/{made['id']}/cancel")
                self.asked[fate] += 1

    async def pay_out(self, pause_s: float) -> None:
        """Euros to all kinds of beneficiaries."""
        while not self.stop.is_set():
            body = {
                "wallet_id": self.cast.names[self.chance.choice(self.names)],
                "bank_account_id": self.cast.names["bank"],
                "asset": self.cast.names["EUR"],
                "amount": str(self.chance.randint(1, 500)),
                "beneficiary": {
                    "iban": sandbox_iban(self.chance.choice(BENEFICIARIES)),
                    "name": "Grace Hopper",
                },
                "remittance": "Invoice",
            }
            await self._post("/v1/payouts", body)
            await asyncio.sleep(self.chance.uniform(0.5, 1.5) * pause_s)

    async def _ask(self, code: str, amount: int, *, expires_in_s: int = 0) -> Json | None:
        body: Json = {
            "wallet_id": self.cast.names[self.chance.choice(self.names)],
            "asset": self.cast.names[code],
            "amount": str(amount),
            **self.payees.choose(self.chance, code),
        }
        if expires_in_s:
            body["expires_in_s"] = expires_in_s
        return await self._post("/v1/withdrawals", body)

    async def _post(self, path: str, body: Json) -> Json | None:
        """Once, under one key; sometimes asked again, which must change nothing. None where it is refused."""
        key = uuid.UUID(int=self.chance.getrandbits(128)).hex
        try:
            made = await self.cast.app.post(path, body, key=key)
            if self.chance.random() < 0.1:
                again = await self.cast.app.post(path, body, key=key)
                if again["id"] != made["id"]:
                    raise AnotherAnswer(f"{path} {key}: {made['id']}, then {again['id']}")
        except ApiRefused as refused:
            self.asked[f"{path} refused: {refused.code}"] += 1
            return None
        self.asked[path] += 1
        return made
