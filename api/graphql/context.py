"""What one GraphQL request carries: its caller, its view of the database, and loaders that gather lookups.

A query reads one snapshot. A mutation, or a subscription's event, reads anew each time, since it tells what has just changed.
Sibling fields are resolved at the same time, but one connection answers one question at a time: every use of the session
waits its turn. Loaders turn the lookups of a whole list into one statement.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeVar

from api.auth import Caller
from api.graphql.limits import Budget
from api.graphql.loader import Loader
from custody.approvals import service as approvals
from custody.assets import service as assets
from custody.assets.errors import UnknownAsset
from custody.assets.model import Asset
from custody.db.session import ReadSession
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.model import Deposit, DepositCase
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import CustomerId, DepositId, WalletId, WithdrawalId
from custody.ledger import history
from custody.ledger.model import AccountKind, Balance
from custody.policy.model import Decision
from custody.screening import service as screening
from custody.screening.model import Result
from custody.seals import publication
from custody.seals.publication import OwnProof
from custody.wallets import keys
from custody.wallets import service as wallets
from custody.wallets.model import Customer, DepositAddress, DepositKey, Wallet
from custody.withdrawals import judging
from custody.withdrawals import service as withdrawals
from custody.withdrawals.judging import Judgement
from custody.withdrawals.model import Attempt, Withdrawal

WALLETS_MAX = 100
"""Wallets shown of one customer; whoever has more is paged through `wallets`."""


Key = TypeVar("Key")
Found = TypeVar("Found")


class Context:
    """Lives as long as one request, or one event of a subscription."""

    def __init__(
        self,
        caller: Caller,
        session: ReadSession | None = None,
        heads: Mapping[ChainId, int | None] | None = None,
        *,
        asks_fees: bool = True,
    ) -> None:
        """`session`: the request's one read transaction, of the caller's tenant; without it each turn has its own. `heads`: what
        nodes said before it began. `asks_fees`: whether the document can want what transfers cost."""
        self.caller = caller
        self.heads = heads or {}
        self.asks_fees = asks_fees
        self._session = session
        self._turn = asyncio.Lock()
        self.forget()

    def forget(self) -> None:
        """Look everything up again: something has just been changed."""
        self.budget = Budget()
        self._assets: dict[AssetId, Asset] | None = None
        self._loaders: dict[str, Loader[Any, Any]] = {}

    @property
    def wallets(self) -> Loader[WalletId, Wallet | None]:
        """Wallets by id."""
        return self._loader(self._load_wallets)

    @property
    def customers(self) -> Loader[CustomerId, Customer | None]:
        """Customers by id."""
        return self._loader(self._load_customers)

    @property
    def addresses(self) -> Loader[WalletId, list[DepositAddress]]:
        """Wallets' deposit addresses."""
        return self._loader(self._load_addresses)

    @property
    def deposit_keys(self) -> Loader[WalletId, DepositKey | None]:
        """Wallets' own EVM accounts."""
        return self._loader(self._load_deposit_keys)

    @property
    def wallets_of(self) -> Loader[CustomerId, list[Wallet]]:
        """Customers' wallets."""
        return self._loader(self._load_wallets_of)

    @property
    def balances(self) -> Loader[WalletId, list[Balance]]:
        """Wallets' balances."""
        return self._loader(self._load_balances)

    @property
    def decisions(self) -> Loader[bytes, list[Decision]]:
        """Approvers' decisions, by digest."""
        return self._loader(self._load_decisions)

    @property
    def cases(self) -> Loader[DepositId, DepositCase | None]:
        """Deposits' cases."""
        return self._loader(self._load_cases)

    @property
    def deposits_by_id(self) -> Loader[DepositId, Deposit | None]:
        """Deposits by id."""
        return self._loader(self._load_deposits)

    @property
    def withdrawals_by_id(self) -> Loader[WithdrawalId, Withdrawal | None]:
        """Withdrawals by id."""
        return self._loader(self._load_withdrawals)

    @property
    def screenings(self) -> Loader[WithdrawalId, list[Result]]:
        """What was said about withdrawals' receivers."""
        return self._loader(self._load_screenings)

    @property
    def attempts(self) -> Loader[WithdrawalId, list[Attempt]]:
        """Withdrawals' attempts."""
        return self._loader(self._load_attempts)

    @property
    def liability_proofs(self) -> Loader[tuple[WalletId, AssetId], OwnProof | None]:
        """Wallets' proofs of what is owed to them, by wallet and asset; None where nothing was owed."""
        return self._loader(self._load_liability_proofs)

    @property
    def judgements(self) -> Loader[Withdrawal, Judgement]:
        """How the policy stands towards withdrawals."""
        return self._loader(self._load_judgements)

    def _loader(self, load: Callable[[list[Key]], Awaitable[Sequence[Found]]]) -> Loader[Key, Found]:
        """Made when it is first asked for: most operations need few of them."""
        found = self._loaders.get(load.__name__)
        if found is None:
            found = self._loaders[load.__name__] = Loader(load)
        return found

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[ReadSession]:
        """The session, while nobody else of this request uses it."""
        async with self._turn, self._opened() as session:
            yield session

    def _opened(self) -> AbstractAsyncContextManager[ReadSession]:
        return self.caller.read() if self._session is None else nullcontext(self._session)

    async def asset(self, asset_id: AssetId) -> Asset:
        """A listed asset. What is listed stays as it is, so that what this process has seen of it holds."""
        return (await self.listed_all((asset_id,)))[asset_id]

    async def listed_all(self, wanted: Collection[AssetId]) -> Mapping[AssetId, Asset]:
        """At least these, all of them listed."""
        return await self.caller.app.known_assets.of(self.caller.app.db.reader, wanted)

    async def listed(self, asset_id: AssetId) -> Asset:
        """A listed asset that a caller names. Raises UnknownAsset."""
        found = (await self.asset_register()).get(asset_id)
        if found is None:
            raise UnknownAsset(asset=asset_id.text)
        return found

    async def asset_register(self) -> Mapping[AssetId, Asset]:
        """All listed assets; read once per request."""
        if self._assets is None:
            async with self.turn() as session:
                if self._assets is None:
                    self._assets = {asset.id: asset for asset in await assets.list_assets(session)}
        return self._assets

    async def _load_wallets(self, ids: list[WalletId]) -> list[Wallet | None]:
        async with self.turn() as session:
            found = {row.id: row for row in await wallets.find_wallets(session, ids)}
        return [found.get(each) for each in ids]

    async def _load_customers(self, ids: list[CustomerId]) -> list[Customer | None]:
        async with self.turn() as session:
            found = {row.id: row for row in await wallets.find_customers(session, ids)}
        return [found.get(each) for each in ids]

    async def _load_wallets_of(self, ids: list[CustomerId]) -> list[list[Wallet]]:
        async with self.turn() as session:
            found = await wallets.list_wallets_of(session, ids, WALLETS_MAX)
        of_customer: dict[CustomerId, list[Wallet]] = {each: [] for each in ids}
        for row in found:
            of_customer[row.customer_id].append(row)
        return [of_customer[each] for each in ids]

    async def _load_addresses(self, ids: list[WalletId]) -> list[list[DepositAddress]]:
        async with self.turn() as session:
            found = await wallets.list_addresses(session, *ids)
        return [[row for row in found if row.wallet_id == each] for each in ids]

    async def _load_deposit_keys(self, ids: list[WalletId]) -> list[DepositKey | None]:
        async with self.turn() as session:
            found = {row.wallet_id: row for row in await keys.find_keys_of(session, ids)}
        return [found.get(each) for each in ids]

    async def _load_balances(self, ids: list[WalletId]) -> list[list[Balance]]:
        async with self.turn() as session:
            found = await history.balances_of(session, AccountKind.WALLET, ids)
        return [[row for row in found if row.key.owner == each] for each in ids]

    async def _load_decisions(self, digests: list[bytes]) -> list[list[Decision]]:
        async with self.turn() as session:
            found = await approvals.list_for_all(session, digests)
        return [found.get(each, []) for each in digests]

    async def _load_cases(self, ids: list[DepositId]) -> list[DepositCase | None]:
        async with self.turn() as session:
            found = {row.deposit_id: row for row in await cases.list_cases_of(session, ids)}
        return [found.get(each) for each in ids]

    async def _load_deposits(self, ids: list[DepositId]) -> list[Deposit | None]:
        async with self.turn() as session:
            found = {row.id: row for row in await deposits.find_deposits(session, ids)}
        return [found.get(each) for each in ids]

    async def _load_screenings(self, ids: list[WithdrawalId]) -> list[list[Result]]:
        async with self.turn() as session:
            found = await screening.list_results(session, ids)
        return [[row for row in found if row.withdrawal_id == each] for each in ids]

    async def _load_withdrawals(self, ids: list[WithdrawalId]) -> list[Withdrawal | None]:
        async with self.turn() as session:
            found = {row.id: row for row in await withdrawals.find_withdrawals(session, ids)}
        return [found.get(each) for each in ids]

    async def _load_attempts(self, ids: list[WithdrawalId]) -> list[list[Attempt]]:
        async with self.turn() as session:
            found = await withdrawals.list_attempts(session, ids)
        return [[row for row in found if row.withdrawal_id == each] for each in ids]

    async def _load_liability_proofs(self, asked: list[tuple[WalletId, AssetId]]) -> list[OwnProof | None]:
        found: dict[tuple[WalletId, AssetId], OwnProof] = {}
        async with self.turn() as session:
            for asset in dict.fromkeys(asset for _, asset in asked):
                of_asset = [wallet for wallet, each in asked if each == asset]
                proofs = await publication.own_proofs(session, of_asset, asset)
                found |= {(WalletId(wallet), asset): proof for wallet, proof in proofs.items()}
        return [found.get(each) for each in asked]

    async def _load_judgements(self, asked: list[Withdrawal]) -> list[Judgement]:
        async with self.turn() as session:
            found = await judging.judge(session, asked)
        return [found[each.id] for each in asked]
