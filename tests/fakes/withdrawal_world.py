"""A tenant with money, vaults, approvers and two fake chains: what tests of withdrawals start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from custody.assets import service as assets
from custody.db.session import Database, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.clock import FixedClock
from custody.kernel.ids import (
    CustomerId,
    PrincipalId,
    TenantId,
    VaultId,
    WalletId,
    WithdrawalId,
    derived_uuid,
    new_uuid,
)
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import AccountKey, AccountKind
from custody.policy import service as policies
from custody.policy.model import (
    AllowRule,
    ApprovalPolicy,
    Approver,
    ApproverKey,
    Decision,
    Demand,
    Governance,
    Scope,
    Word,
)
from custody.settings import Settings
from custody.signing import batches, intents
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import RequestWithdrawal, Withdrawal, WithdrawalView
from custody.withdrawals.ports import Means
from signer.protocol.approvals import BATCH_TAG, approval_message
from tests.fakes.chain import FakeChain
from tests.fakes.faults import Faults
from tests.fakes.finality import lapse_due
from tests.fakes.signer import FakeSigner

STELLAR = ChainId("stellar:devnet")
EVM = ChainId("eip155:31337")
XLM = parse_asset_id("stellar:devnet/native")
USDC = parse_asset_id("stellar:devnet/USDC:GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4")
ETH = parse_asset_id("eip155:31337/native")
OUTSIDE = {
    STELLAR: "GC5HBIPAKK3Z3OV5XKAIHLXPZLVDI6ERAJA2RWSQEKXFOXENLGOQIZR4",
    EVM: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
}
VAULT_ACCOUNT = {
    STELLAR: "GAJQTRTE7HCNATAQREKWNYP2YGFPELWEJH6ZBVZR7RM2AJLAS57OAL5N",
    EVM: "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
}
VAULT = {chain: VaultId(derived_uuid("vault", chain)) for chain in (STELLAR, EVM)}
WALLET = WalletId(derived_uuid("wallet", 1))
START = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
FUNDS = 1_000_000
APPROVERS = ("alice", "bob", "carol")


def make_settings(**changes: object) -> Settings:
    """Settings of two chains; nothing they name is running."""
    values: dict[str, object] = {
        "environment": "development",
        "database": {"url": "postgresql://nobody@127.0.0.1/none"},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "signer": {"socket": "/nonexistent/signer.sock"},
        "api": {"port": 1},
        "intent_valid_s": 3600,
        "chains": [
            {
                "id": STELLAR,
                "kind": "stellar",
                "rpc_url": "http://127.0.0.1:1",
                "network_passphrase": "Custody Devnet ; 2026",
                "confirmations": 0,
                "max_fee_stroops": 10_000,
                "tx_valid_s": 60,
                "tx_valid_ledgers": 12,
            },
            {
                "id": EVM,
                "kind": "evm",
                "rpc_url": "http://127.0.0.1:1",
                "chain_id": 31337,
                "confirmations": 1,
                "gas_limit_native": 21_000,
                "gas_limit_erc20": 90_000,
                "max_fee_per_gas_wei": 100,
                "max_priority_fee_per_gas_wei": 10,
                "tx_valid_s": 60,
            },
        ],
    }
    return Settings(**(values | changes))  # type: ignore[arg-type]  # pydantic checks each value


def approver_key(name: str) -> Ed25519PrivateKey:
    """A person's key, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def make_policy(threshold: int = 2, version: int = 1) -> ApprovalPolicy:
    """`threshold` of three people for everything up to half the funds."""
    return ApprovalPolicy(
        version=version,
        approver_set_version=1,
        policy_hash=f"{version:064x}",
        approvers=tuple(
            Approver(
                id=name,
                keys=(
                    ApproverKey(
                        algorithm="ed25519",
                        public_key=approver_key(name).public_key().public_bytes_raw().hex(),
                        passkey=None,
                    ),
                ),
                groups=("treasury",),
            )
            for name in APPROVERS
        ),
        address_book=(),
        governance=Governance(approvals=(Demand(group="treasury", threshold=2),), cool_down_s=0),
        deny=(),
        allow=tuple(
            AllowRule(
                scope=Scope(
                    id=kind, org="*", vault="*", key="*", chain="*", kind=kind, asset="*", destinations=("*",)
                ),
                amount_max=amount_max,
                fee_max=10**18,
                windows=(),
                hours=(),
                approvals=(Demand(group="treasury", threshold=threshold),),
                cool_down_s=0,
            )
            for kind, amount_max in (
                ("stellar_payment", FUNDS // 2),
                ("evm_transfer", FUNDS // 2),
                ("stellar_change_trust", 2**63 - 1),
                ("stellar_anchor", 0),
                ("stellar_memo_required", 0),
                ("evm_cancel", 0),
                ("evm_fill", 0),
            )
        ),
    )


def make_decision(intent: bytes, name: str, word: Word = Word.APPROVE) -> Decision:
    """What this person signs about an intent."""
    key = approver_key(name)
    message = approval_message(decision=word.value, digest=intents.digest(intent), approver_set_version=1)
    return Decision(
        approver=name,
        public_key=key.public_key().public_bytes_raw().hex(),
        word=word,
        signature=key.sign(message).hex(),
    )


def make_batch_decision(document: bytes, name: str, word: Word = Word.APPROVE) -> Decision:
    """What this person signs about a batch."""
    key = approver_key(name)
    message = approval_message(
        decision=word.value, digest=batches.digest(document), approver_set_version=1, tag=BATCH_TAG
    )
    return Decision(
        approver=name,
        public_key=key.public_key().public_bytes_raw().hex(),
        word=word,
        signature=key.sign(message).hex(),
    )


@dataclass(kw_only=True)
class World:
    """One tenant and all that surrounds it."""

    db: Database
    tenant: TenantId
    faults: Faults = field(default_factory=Faults)
    clock: FixedClock = field(default_factory=lambda: FixedClock(START))
    settings: Settings = field(default_factory=make_settings)
    policy: ApprovalPolicy = field(default_factory=make_policy)

    def __post_init__(self) -> None:
        self.signer = FakeSigner(self.policy, self.clock, self.faults)
        self.chains = {chain: FakeChain(chain, self.faults) for chain in (STELLAR, EVM)}
        self.means = Means(
            db=self.db,
            signer=self.signer,
            clients=self.chains,
            settings=self.settings,
            clock=self.clock,
        )
        self.principal = Principal(
            tenant=self.tenant,
            id=PrincipalId(derived_uuid("principal", 1)),
            subject="maker",
            scopes=frozenset({"read", "write"}),
        )

    async def open(self) -> World:
        """Assets, vaults, a wallet with money of each kind, the policy, and ingestion at the chains' heads."""
        async with self.db.unit_of_work(None) as uow:
            await policies.adopt(uow, self.policy)
        async with self.db.unit_of_work(self.tenant) as uow:
            for asset, code, decimals in ((XLM, "XLM", 7), (ETH, "ETH", 18), (USDC, "USDC", 7)):
                await assets.register(uow, asset, code, decimals)
            customer = await wallets.create_customer(
                uow, "test", CustomerId(derived_uuid("customer", 1)), name="Ada", external_ref="ada"
            )
            await wallets.create_wallet(uow, "test", WALLET, customer.id, "main")
            for chain in (STELLAR, EVM):
                await self._add_vault(uow, chain)
        for chain in self.chains:
            await self.ingest(chain)
        return self

    async def _add_vault(self, uow: UnitOfWork, chain: ChainId) -> None:
        vault = Vault(
            id=VAULT[chain],
            chain=chain,
            purpose="omnibus",
            wallet_id=None,
            key_id=derived_uuid("key", chain).hex,
            account=VAULT_ACCOUNT[chain],
        )
        await wallets.add_vault(uow, "test", vault)
        native = parse_asset_id(f"{chain}/native")
        await ledger.post(
            uow,
            *postings.deposit_credited(
                deposit_id=derived_uuid("deposit", chain),
                vault_id=vault.id,
                wallet_id=WALLET,
                amount=Amount(native, FUNDS),
            ),
        )

    async def request(
        self, asset: AssetId = XLM, amount: int = 1000, *, approve: Sequence[str] = (), **changes: object
    ) -> Withdrawal:
        """A withdrawal, with these people's approvals."""
        wanted = {
            "id": WithdrawalId(new_uuid()),
            "wallet_id": WALLET,
            "asset": asset,
            "destination": OUTSIDE[asset.chain],
            "amount": amount,
        } | changes
        async with self.db.unit_of_work(self.tenant) as uow:
            made = await withdrawals.request(
                uow,
                self.principal,
                RequestWithdrawal(**wanted),  # type: ignore[arg-type]  # a table of overrides
                settings=self.settings,
                clock=self.clock,
            )
        for name in approve:
            made = await self.decide(made, name)
        return made

    async def decide(self, withdrawal: Withdrawal, name: str, word: Word = Word.APPROVE) -> Withdrawal:
        """This person's decision."""
        async with self.db.unit_of_work(self.tenant) as uow:
            return await withdrawals.decide(uow, withdrawal.id, make_decision(withdrawal.intent, name, word))

    async def advance(self, withdrawal: Withdrawal) -> str:
        """What a worker does."""
        return await execution.advance(self.means, self.tenant, withdrawal.id)

    async def ingest(self, chain: ChainId, *, final: int | None = None) -> int:
        """Close a block and take it in, as ingestion does: facts first, then what is final. Returns its height."""
        client = self.chains[chain]
        seen = client.close_block()
        async with self.db.unit_of_work(self.tenant) as uow:
            for each in seen:
                await withdrawals.observe_transaction(uow, each)
        async with self.db.unit_of_work(self.tenant) as uow:
            await lapse_due(uow, chain, client.height if final is None else final)
        return client.height

    async def state(self, withdrawal: Withdrawal) -> str:
        """Where it stands."""
        async with self.db.read(self.tenant) as session:
            return (await withdrawals.get(session, withdrawal.id)).state

    async def view(self, withdrawal: Withdrawal) -> WithdrawalView:
        """All about it."""
        async with self.db.read(self.tenant) as session:
            return await withdrawals.view(session, withdrawal.id)

    async def money(self, asset: AssetId = XLM) -> tuple[int, int, int, int]:
        """Wallet posted, wallet held, vault posted, network fees posted; the books balance or this raises."""
        fees = AccountKey(kind=AccountKind.NETWORK_FEES, owner=None, asset=asset)
        async with self.db.read(self.tenant) as session:
            wallet = await ledger.balance(session, postings.wallet_account(WALLET, asset))
            vault = await ledger.balance(session, postings.vault_account(VAULT[asset.chain], asset))
            fee = await ledger.balance(session, fees)
            trial = await ledger.trial_balance(session)
        if any(trial.values()):
            raise AssertionError(f"the books do not balance: {trial}")
        return wallet.posted, wallet.pending_out, vault.posted, fee.posted
