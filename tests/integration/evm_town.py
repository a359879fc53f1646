"""A tenant that pays out on a real anvil: a SoftHSM signer, our own ingestion, and a worker that is turned by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from custody.chains.registry import build_client
from custody.db.session import Database
from custody.deposits import execution as deposits
from custody.identity.model import Principal
from custody.kernel.clock import SystemClock
from custody.kernel.ids import PrincipalId, TenantId, WalletId, WithdrawalId, derived_uuid, new_uuid
from custody.policy import service as policies
from custody.policy.model import ApprovalPolicy, Decision
from custody.settings import Settings
from custody.signing.client import SignerClient
from custody.signing.errors import SignerRefused, SigningUnknown
from custody.signing.model import SignedTransaction, SignerHealth, Slot
from custody.wallets.model import Vault
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.execution import Failure
from custody.withdrawals.model import Attempt, RequestWithdrawal, Withdrawal
from custody.withdrawals.ports import Means
from devnet.evm import Outsider
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from tests.fakes.withdrawal_world import OUTSIDE, make_decision
from tests.integration.evm_stage import CHAIN, ETH, evm_settings
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence

RECEIVER = OUTSIDE[CHAIN]
DEPOSIT = 10**18
AMOUNT = 1000
CONFIRMATIONS = 1


@dataclass(kw_only=True)
class Refusing:
    """The signer, except for intents that it is told to refuse, or not to answer for."""

    client: SignerClient
    refused: set[bytes] = field(default_factory=set)
    unanswered: set[bytes] = field(default_factory=set)

    async def health(self) -> SignerHealth:
        return await self.client.health()

    async def get_policy(self) -> ApprovalPolicy:
        return await self.client.get_policy()

    async def sign(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        if intent in self.refused:
            raise SignerRefused(reason="denied_by_rule", text="")
        if intent in self.unanswered:
            raise SigningUnknown(cause="lost")
        return await self.client.sign(intent, decisions, slot)

    async def veto(self, intent: bytes, decisions: Sequence[Decision]) -> None:
        await self.client.veto(intent, decisions)

    async def void(self, intent: bytes) -> None:
        await self.client.void(intent)

    async def approve_batch(
        self, document: bytes, lines: Sequence[bytes], decisions: Sequence[Decision]
    ) -> None:
        await self.client.approve_batch(document, lines, decisions)


@dataclass(kw_only=True)
class Town:
    """All of it. Blocks come when `mine` is called, and are taken in at once."""

    desk: Desk
    means: Means
    signer: Refusing
    outsider: Outsider
    loop: Loop
    vault: Vault
    wallet: WalletId

    @property
    def principal(self) -> Principal:
        return Principal(
            tenant=self.desk.tenant,
            id=PrincipalId(derived_uuid("principal")),
            subject="maker",
            scopes=frozenset({"write"}),
        )

    async def request(self, *, approve: bool = True, destination: str = RECEIVER) -> Withdrawal:
        wanted = RequestWithdrawal(
            id=WithdrawalId(new_uuid()),
            wallet_id=self.wallet,
            asset=ETH,
            destination=destination,
            amount=AMOUNT,
        )
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            made = await withdrawals.request(
                uow, self.principal, wanted, settings=self.means.settings, clock=self.means.clock
            )
        return await self.approve(made) if approve else made

    async def approve(self, made: Withdrawal) -> Withdrawal:
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            for name in ("alice", "bob"):
                made = await withdrawals.decide(uow, made.id, make_decision(made.intent, name))
        return made

    async def cancel(self, target: Withdrawal) -> Withdrawal:
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            asked = await withdrawals.request_cancel(
                uow,
                self.principal,
                WithdrawalId(new_uuid()),
                target.id,
                settings=self.means.settings,
                clock=self.means.clock,
            )
        return await self.approve(asked)

    async def advance(self, made: Withdrawal) -> str:
        return await execution.advance(self.means, self.desk.tenant, made.id)

    async def advance_due(self, limit: int = 1000) -> list[Failure]:
        return await execution.advance_due(self.means, self.desk.tenant, limit=limit)

    async def mine(self, blocks: int = 1) -> None:
        await self.outsider.mine(blocks)
        await catch_up(self.loop)

    async def all(self) -> list[Withdrawal]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return await withdrawals.list_withdrawals(session, limit=1000)

    async def states(self, *made: Withdrawal) -> list[str]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return [(await withdrawals.get(session, each.id)).state for each in made]

    async def attempts(self, *made: Withdrawal) -> list[Attempt]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return await withdrawals.list_attempts(session, [each.id for each in made])

    async def in_pool(self) -> int:
        """How many of the vault's transactions the node would mine one after the other."""
        pending = int(await self.outsider.call("eth_getTransactionCount", self.vault.account, "pending"), 16)
        mined = int(await self.outsider.call("eth_getTransactionCount", self.vault.account, "latest"), 16)
        return pending - mined

    async def received(self) -> int:
        return await self.outsider.balance(RECEIVER)

    async def differs(self) -> int:
        """What the chain has more than the books say, of the vault's ether."""
        return await self.outsider.balance(self.vault.account) - await self.desk.held(self.vault, ETH)


@asynccontextmanager
async def open_town(
    database: Database, tenant: TenantId, node: str, socket: str, **sending: Any
) -> AsyncIterator[Town]:
    """A vault with ether on this node; it mines when told, and only then."""
    signer = Refusing(client=SignerClient(socket, timeout_s=30))
    chain = evm_settings(node, confirmations=CONFIRMATIONS, evm=sending)
    settings = Settings(
        environment="development",
        database={"url": "postgresql://nobody@127.0.0.1/none"},
        redis={"url": "redis://127.0.0.1:1/0"},
        signer={"socket": socket},
        api={"port": 1},
        intent_valid_s=3600,
        chains=[chain.model_dump(exclude_defaults=True)],
    )
    client, source = build_client(chain), build_source(chain, database)
    means = Means(db=database, signer=signer, clients={CHAIN: client}, settings=settings, clock=SystemClock())
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=signer.client)  # type: ignore[arg-type]  # makes keys too
    async with database.unit_of_work(None) as uow:
        await policies.adopt(uow, await signer.get_policy())
    await desk.list_asset(ETH, "ETH", 18)
    wallet = await desk.open_wallet("acme", "treasury")
    vault = await deposits.create_vault(database, signer.client, desk.principal, CHAIN, new_uuid())
    address = await desk.issue_address(wallet)
    loop = build_loop(database, source, await take_fence(database, CHAIN), confirmations=CONFIRMATIONS)
    async with Outsider(node) as outsider:
        await outsider.send_ether(address.address, DEPOSIT)
        await outsider.call("evm_setAutomine", False)
        town = Town(
            desk=desk,
            means=means,
            signer=signer,
            outsider=outsider,
            loop=loop,
            vault=vault,
            wallet=wallet,
        )
        await town.mine(CONFIRMATIONS + 1)
        yield town
    await source.aclose()
    await client.aclose()
