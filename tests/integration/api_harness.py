"""The API over a real Postgres: two tenants with keys, wallets and money, and a client that speaks HTTP to the application."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from sqlalchemy import text

from api.main import create_app
from custody.assets import service as assets
from custody.bootstrap import App
from custody.chains.registry import build_clients
from custody.db.session import Database
from custody.deposits import key_pool
from custody.events.wakeup import Waker
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.clock import SystemClock
from custody.kernel.ids import CustomerId, TenantId, VaultId, WalletId, derived_uuid, new_uuid, show_id
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.policy.model import AllowRule, ApprovalPolicy, Approver, ApproverKey, Demand, Governance, Scope
from custody.settings import Settings
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.ready_receivers import ReadyReceivers

XLM = parse_asset_id("stellar:devnet/native")
ETH = parse_asset_id("eip155:31337/native")
EUR = parse_asset_id("fiat/EUR")
STELLAR = ChainId("stellar:devnet")
EVM = ChainId("eip155:31337")
FUNDS = 1_000_000_000
CALLBACK_SECRET = "whsec_" + "c2FuZGJveC1jYWxsYmFjay1zZWNyZXQtMzItYnl0ZXM="
WEBHOOK_KEY = "d2ViaG9va3Mtc2VhbC1zZWNyZXRzLXdpdGgtdGhpcy0="
STRANGER = "GBRPYHIL2CI3FNQ4BXLFMNDLFJUNPU2HY3ZMFSHONUCEOASW7QC7OX2H"
STRANGER_EVM = "0x52908400098527886E0F7030069857D2E4169EE7"
APPROVERS = ("alice", "bob", "carol")

_CLOSED = "http://127.0.0.1:1"


@dataclass(kw_only=True)
class Tenant:
    """One tenant with money in one wallet."""

    id: TenantId
    keys: dict[str, str] = field(default_factory=dict)
    """API key secrets by what they may do: `all`, `read`, `write`, `approve`, `operate`."""
    customer: str = ""
    wallet: str = ""
    """Shown id of the wallet that has funds."""
    empty_wallet: str = ""
    vault: str = ""
    """Shown id of the Stellar omnibus vault."""
    bank: str = ""
    withdrawal: str = ""


@dataclass(kw_only=True)
class Harness:
    """The application and what stands behind it."""

    asgi: FastAPI
    app: App
    http: httpx.AsyncClient
    tenant: Tenant
    other: Tenant

    def headers(
        self, scope: str = "all", key: str | None = None, tenant: Tenant | None = None
    ) -> dict[str, str]:
        """Headers of one request; a fresh idempotency key unless one is given."""
        whose = tenant or self.tenant
        return {"Authorization": f"Bearer {whose.keys[scope]}", "Idempotency-Key": key or uuid4().hex}

    async def post(
        self, path: str, body: object, *, key: str | None = None, scope: str = "all"
    ) -> httpx.Response:
        """A command of the first tenant."""
        return await self.http.post(path, json=body, headers=self.headers(scope, key))

    async def get(
        self, path: str, *, scope: str = "all", tenant: Tenant | None = None, **query: str
    ) -> httpx.Response:
        """A read, of the first tenant unless another is given."""
        return await self.http.get(path, params=query, headers=self.headers(scope, tenant=tenant))

    async def graphql(
        self, query: str, *, tenant: Tenant | None = None, **variables: object
    ) -> dict[str, Any]:
        """A query's whole answer."""
        answer = await self.http.post(
            "/graphql", json={"query": query, "variables": variables}, headers=self.headers(tenant=tenant)
        )
        body: dict[str, Any] = answer.json()
        return body

    async def row_counts(self, admin_dsn: str) -> dict[str, int]:
        """How many rows each table has, seen by an administrator: a refused request must not change one of them."""
        database = Database(admin_dsn, pool_size=2)
        try:
            async with database.engine.connect() as conn:
                names = (
                    await conn.execute(
                        text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
                    )
                ).scalars()
                return {
                    name: int((await conn.execute(text(f'SELECT count(*) FROM "{name}"'))).scalar_one())
                    for name in list(names)
                }
        finally:
            await database.close()


@contextlib.asynccontextmanager
async def running(database: Database) -> AsyncIterator[Harness]:
    """The application with two furnished tenants."""
    settings = make_settings(database.url)
    signer = FakeKeyMaker()
    app = App(
        settings=settings,
        db=database,
        clients={**build_clients(settings), STELLAR: ReadyReceivers(settings.chain(STELLAR))},
        signer=signer,  # type: ignore[arg-type]  # the API asks it for keys only
        waker=Waker("redis://127.0.0.1:1/0"),
        clock=SystemClock(),
    )
    asgi = create_app(app)
    async with database.unit_of_work(None) as uow:
        await policies.adopt(uow, make_policy())
        for asset, code, decimals in ((XLM, "XLM", 7), (ETH, "ETH", 18), (EUR, "EUR", 2)):
            await assets.register(uow, asset, code, decimals)
    tenant = await furnish(database, "acme", 4200)
    other = await furnish(database, "rival", 4300)
    for each in (tenant, other):
        await key_pool.refill(database, signer, each.id, low_water=5, batch_size=5)
    transport = httpx.ASGITransport(asgi, raise_app_exceptions=True)
    async with (
        asyncio.TaskGroup() as group,
        httpx.AsyncClient(transport=transport, base_url="http://api") as http,
    ):
        group.create_task(asgi.state.poster.run())
        yield Harness(asgi=asgi, app=asgi.state.custody, http=http, tenant=tenant, other=other)
        asgi.state.poster.stop()
    for client in app.clients.values():
        await client.aclose()


async def furnish(database: Database, name: str, seed: int) -> Tenant:
    """A tenant with keys, a funded wallet, an empty one, and an omnibus vault."""
    async with database.unit_of_work(None) as uow:
        made = Tenant(id=await identity.create_tenant(uow, name))
    account = FakeKeyMaker.account_of(derived_uuid("harness", name), STELLAR)
    async with database.unit_of_work(made.id) as uow:
        scopes = {"all": ("read", "write", "approve", "operate")} | {
            one: (one,) for one in ("read", "write", "approve", "operate")
        }
        for label, granted in scopes.items():
            made.keys[label] = (await identity.issue_api_key(uow, f"{name}-{label}", granted)).secret
        customer = CustomerId(new_uuid())
        await wallets.create_customer(uow, "test", customer, name="Ada", external_ref=f"ada-{name}")
        wallet, empty = WalletId(new_uuid()), WalletId(new_uuid())
        await wallets.create_wallet(uow, "test", wallet, customer, "main")
        await wallets.create_wallet(uow, "test", empty, customer, "empty")
        vault = VaultId(new_uuid())
        await wallets.add_vault(
            uow,
            "test",
            Vault(
                id=vault,
                chain=STELLAR,
                purpose="omnibus",
                wallet_id=None,
                key_id=f"{seed:032x}",
                account=account,
            ),
        )
        await fund(uow, wallet, vault, XLM)
    made.customer, made.vault = show_id("cus", customer), show_id("vlt", vault)
    made.wallet, made.empty_wallet = show_id("wal", wallet), show_id("wal", empty)
    return made


async def fund(uow: Any, wallet: WalletId, vault: VaultId, asset: AssetId) -> None:
    """Book a deposit into the wallet, as ingestion would."""
    deposit = new_uuid()
    await ledger.post(
        uow,
        *postings.deposit_credited(
            deposit_id=deposit, vault_id=vault, wallet_id=wallet, amount=Amount(asset, FUNDS)
        ),
    )


def make_settings(url: str) -> Settings:
    """What the tests' installation is configured as; its chains' nodes do not answer."""
    return Settings(
        environment="development",
        database={"url": url},
        redis={"url": "redis://127.0.0.1:1/0"},
        signer={"socket": "/nonexistent/signer.sock"},
        api={
            "requests_per_minute": {"read": 10**7, "write": 10**7, "graphql": 10**7},
            "port": 18080,
            "max_body_bytes": 65536,
            "introspection": True,
            "key_memory_s": 0,
        },
        chains=(
            {
                "id": "stellar:devnet",
                "kind": "stellar",
                "rpc_url": _CLOSED,
                "network_passphrase": "Custody Devnet ; 2026",
                "confirmations": 0,
                "max_fee_stroops": 10_000,
                "tx_valid_s": 60,
                "tx_valid_ledgers": 20,
            },
            {
                "id": "eip155:31337",
                "kind": "evm",
                "rpc_url": _CLOSED,
                "chain_id": 31337,
                "confirmations": 2,
                "gas_limit_native": 21_000,
                "gas_limit_erc20": 100_000,
                "max_fee_per_gas_wei": 10**11,
                "max_priority_fee_per_gas_wei": 10**10,
                "tx_valid_s": 60,
            },
        ),
        rails={"sandbox": {"kind": "sandbox", "base_url": _CLOSED, "callback_secret": CALLBACK_SECRET}},
        intent_valid_s=3600,
        webhooks={"secret_keys": (WEBHOOK_KEY,), "allow_http": True, "allowed_networks": ("127.0.0.0/8",)},
    )


def make_policy() -> ApprovalPolicy:
    """Two of three approvers for everything."""
    return ApprovalPolicy(
        version=1,
        approver_set_version=1,
        policy_hash="ab" * 32,
        approvers=tuple(
            Approver(
                id=name,
                keys=(ApproverKey(algorithm="ed25519", public_key=public_key_of(name), passkey=None),),
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
                    id=f"any-{chain}",
                    org="*",
                    vault="*",
                    key="*",
                    chain=chain,
                    kind="*",
                    asset="*",
                    destinations=("*",),
                ),
                amount_max=2**256 - 1,
                fee_max=2**256 - 1,
                windows=(),
                hours=(),
                approvals=(Demand(group="treasury", threshold=2),),
                cool_down_s=0,
            )
            for chain in (STELLAR, EVM)
        ),
    )


def approver_key(name: str) -> Ed25519PrivateKey:
    """A person's test key, the same in every run."""
    return Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b"."))


def public_key_of(name: str) -> str:
    """Its public half, hexadecimal."""
    return approver_key(name).public_key().public_bytes_raw().hex()


def shown(prefix: str, value: UUID) -> str:
    """An id as clients see it."""
    return show_id(prefix, value)
