"""The outside world of the demo: an issuer and a payer on Stellar, a token and a payer on EVM, and somebody's bank account."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from stellar_sdk import Asset, IdMemo, Keypair

from custody.chains.evm.address import checksum, parse_address
from devnet.bank.ibans import sandbox_iban
from devnet.config import Endpoints
from devnet.evm import Outsider as EvmOutsider
from devnet.stellar.outsider import IssuedAsset, Sent
from devnet.stellar.outsider import Outsider as StellarOutsider
from devnet.story.client import StoryError

PAYER_USDC = 10_000 * 10**7
PAYER_TUSD = 10_000 * 10**6


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarPayment:
    """One payment of the stranger on Stellar."""

    destination: str
    """G or M address."""
    code: str
    """XLM or USDC."""
    amount: int
    """Stroops, or ten-millionths of a USDC."""
    memo: str = ""
    """Memo id in decimal; empty for none."""


@dataclass(slots=True, kw_only=True)
class Outside:
    """Strangers with software keys of their own, none of which the platform knows."""

    stellar: StellarOutsider
    payer: Keypair
    """Pays, and is paid, on Stellar."""
    usdc: IssuedAsset
    evm: EvmOutsider
    token: str
    """The ERC-20 contract, checksummed as listed."""
    evm_payee: str
    """A fresh address that nobody has used."""
    bank_url: str

    @property
    def issuer(self) -> str:
        """Who issues USDC on the local Stellar network."""
        return self.usdc.issuer.public_key

    @property
    def stellar_payee(self) -> str:
        """Where withdrawals on Stellar go."""
        return self.payer.public_key

    async def create_account(self, address: str, xlm_stroops: int, memo: str) -> None:
        """Bring an account into being on Stellar, with a memo id that says whose money it is."""
        await asyncio.to_thread(
            self.stellar.create_account, self.payer, address, xlm_stroops, memo=IdMemo(int(memo))
        )

    async def pay_stellar(self, payments: list[StellarPayment]) -> list[int]:
        """Pay one after the other: they share one sequence. Returns the ledgers."""
        return [(await self._pay_stellar(payment)).ledger for payment in payments]

    async def _pay_stellar(self, payment: StellarPayment) -> Sent:
        return await asyncio.to_thread(
            self.stellar.pay,
            self.payer,
            payment.destination,
            payment.amount,
            asset=Asset.native() if payment.code == "XLM" else self.usdc.asset,
            memo=IdMemo(int(payment.memo)) if payment.memo else None,
        )

    async def send_ether(self, to: str, wei: int) -> int:
        """Pay ether. Returns the block."""
        return (await self.evm.send_ether(to, wei)).height

    async def pay_evm(self, to: str, *, wei: int, tokens: int) -> None:
        """Pay ether and tokens to one address, one after the other."""
        if wei:
            await self.evm.send_ether(to, wei)
        await self.evm.send_tokens(self.token, to, tokens)

    async def pay_euros(self, iban: str, cents: int, remittance: str) -> None:
        """A stranger orders a credit transfer to our bank account."""
        async with httpx.AsyncClient(base_url=self.bank_url, timeout=20.0, trust_env=False) as http:
            answer = await http.post(
                "/sandbox/incoming",
                json={
                    "account": iban,
                    "amount": str(cents),
                    "remittance": remittance,
                    "debtor_iban": sandbox_iban(7001),
                    "debtor_name": "Ada Lovelace",
                },
            )
        if answer.status_code >= 400:
            raise StoryError(f"the sandbox bank refused an incoming payment: {answer.text}")

    async def open_bank_account(self, iban: str) -> None:
        """Open our account at the sandbox bank. Idempotent."""
        async with httpx.AsyncClient(base_url=self.bank_url, timeout=20.0, trust_env=False) as http:
            answer = await http.post("/sandbox/accounts", json={"iban": iban, "holder": "Custody demo"})
        if answer.status_code >= 400 and answer.status_code != 409:
            raise StoryError(f"the sandbox bank opened no account: {answer.text}")

    async def received(self) -> tuple[int, int]:
        """USDC of the payer and wei of the fresh address, as the chains themselves say."""
        usdc = await asyncio.to_thread(self.stellar.balance, self.payer.public_key, self.usdc.asset)
        return usdc, await self.evm.balance(self.evm_payee)


@asynccontextmanager
async def open_outside(ends: Endpoints) -> AsyncIterator[Outside]:
    """Strangers with money: an issuer, a payer with a trustline and USDC, an account on EVM with ether and tokens."""
    stellar = await asyncio.to_thread(StellarOutsider, ends.stellar_rpc_url)
    try:
        payer = await asyncio.to_thread(stellar.new_account)
        usdc = await asyncio.to_thread(stellar.issue_asset, "USDC")
        await asyncio.to_thread(stellar.trust, payer, usdc.asset)
        await asyncio.to_thread(stellar.pay, usdc.issuer, payer.public_key, PAYER_USDC, asset=usdc.asset)
        async with EvmOutsider(ends.evm_rpc_url) as evm:
            token = await evm.deploy_token()
            await evm.mint(token, await evm.address(), PAYER_TUSD)
            yield Outside(
                stellar=stellar,
                payer=payer,
                usdc=usdc,
                evm=evm,
                token=parse_address(token),
                evm_payee=checksum("0x" + secrets.token_hex(20)),
                bank_url=ends.bank_url,
            )
    finally:
        stellar.close()
