"""The vaults' side: our books against the chain at the height that the books have reached.

Where a chain's blocks show their state, it was kept in the transactions that booked them: books and state come from one
database snapshot, at the same height, and nobody is asked. Otherwise, or when the nodes are to be heard as well, the node is
asked afterwards, outside any transaction. Money that moves between the two makes them differ for a moment, so that what is not
equal is tried again, a bounded number of times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from custody.assets import service as assets
from custody.chains.address import STELLAR, namespace
from custody.chains.ports import ChainClient
from custody.db.session import Database, ReadSession
from custody.deposits import service as deposits
from custody.deposits.model import Deposit
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.holdings.model import KeptHolding
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId
from custody.ledger import service as ledger
from custody.ledger.model import AccountKind
from custody.recon.compare import amount_at, halt_break
from custody.recon.model import ChainReading, Holding, ReconBreak, ReconRow
from custody.wallets import service as wallets
from custody.wallets.model import Vault


@dataclass(slots=True, kw_only=True)
class _Watched:
    """One vault's asset while it is being compared."""

    vault: Vault
    holding: Holding
    books: int = 0
    waiting: int = 0
    """What final blocks brought and is not booked yet."""
    height: int | None = None
    """Up to where the books follow the chain."""
    kept: KeptHolding | None = None
    """Its state by the chain's own entries at that height, where they show it."""
    readings: list[ChainReading] = field(default_factory=list)
    from_entries: bool = False
    """Whether the entries are believed without asking the node."""
    trouble: str = ""
    equal: bool = False
    """Found equal once: not looked at again."""

    def row(self) -> ReconRow:
        """What the latest books say beside the entries, or beside all readings of the node."""
        opening = 0 if self.kept is None else self.kept.opening or 0
        if self.from_entries and self.kept is not None:
            outside: int | None = self.kept.state.amount
            at = f"height {self.height}, from the ledger's own entries"
        else:
            outside = None if self.height is None else amount_at(self.readings, self.height)
            at = f"height {self.height}, from the node"
        if outside is None:
            at = self.trouble or "not read at one height"
        return ReconRow(
            holding=self.holding,
            books=self.books,
            outside=outside,
            at=at,
            opening=opening,
            waiting=self.waiting,
        )


class VaultComparison:
    """All holdings of a tenant's vaults. `look` until `done` or out of patience, then take the `rows`."""

    def __init__(
        self,
        db: Database,
        tenant: TenantId,
        clients: Mapping[ChainId, ChainClient],
        *,
        ask_nodes: bool = False,
    ) -> None:
        """Reads nothing yet. `ask_nodes`: also where the chain's own entries tell."""
        self._ask_nodes = ask_nodes
        self._db = db
        self._tenant = tenant
        self._clients = clients
        self._watched: dict[tuple[object, AssetId], _Watched] = {}
        self._looked = False

    @property
    def done(self) -> bool:
        """Whether every holding has been found equal."""
        return self._looked and all(watched.equal for watched in self._watched.values())

    def rows(self) -> tuple[ReconRow, ...]:
        """One row per vault and asset."""
        return tuple(watched.row() for watched in self._watched.values())

    async def halted(self) -> tuple[ReconBreak, ...]:
        """A break for each chain of a vault that is halted: books and chain are of two branches."""
        found = []
        async with self._db.read(self._tenant) as session:
            for chain in sorted({vault.chain for vault in await wallets.list_vaults(session)}):
                halt = await halts.find_open(session, chain)
                if halt is not None:
                    found.append(halt_break(halt))
        return tuple(found)

    async def look(self) -> None:
        """Read the books once and ask the chains about whatever is not yet found equal."""
        async with self._db.read(self._tenant) as session:
            await self._read_books(session)
        for watched in self._watched.values():
            if not watched.equal:
                if not (watched.from_entries and watched.kept is not None):
                    await self._ask(watched)
                watched.equal = watched.row().difference == 0
        self._looked = True

    async def _read_books(self, session: ReadSession) -> None:
        listed = [asset.id for asset in await assets.list_assets(session)]
        for vault in await wallets.list_vaults(session):
            final = await deposits.final_height(session, vault.chain)
            height = -1 if final is None else final.height
            kept = {
                each.state.asset: each
                for each in await holdings.list_holdings(session, [vault.id], height=height)
                if each.opening is not None
            }
            booked = {
                balance.key.asset: balance.posted
                for balance in await ledger.balances(session, AccountKind.VAULT, vault.id)
            }
            held_back = [
                each
                for each in await deposits.find_waiting(session, vault.chain, height)
                if each.vault_id == vault.id
            ]
            for asset in (asset for asset in listed if asset.chain == vault.chain):
                watched = self._watch(vault, asset)
                if not watched.equal:
                    watched.books = booked.get(asset, 0)
                    watched.height = None if final is None else final.height
                    watched.kept = kept.get(asset)
                    # Elsewhere a block shows only accounts that it names: what changed unseen is the node's to tell.
                    watched.from_entries = not self._ask_nodes and namespace(vault.chain) == STELLAR
                    watched.waiting = _waiting(held_back, asset, watched.kept)

    def _watch(self, vault: Vault, asset: AssetId) -> _Watched:
        key = (vault.id, asset)
        if key not in self._watched:
            holding = Holding(owner=f"vault {vault.chain} {vault.account}", owner_id=vault.id, asset=asset)
            self._watched[key] = _Watched(vault=vault, holding=holding)
        return self._watched[key]

    async def _ask(self, watched: _Watched) -> None:
        client = self._clients.get(watched.vault.chain)
        if client is None:
            watched.trouble = "the chain is not configured"
            return
        if watched.height is None:
            watched.trouble = "nothing is ingested from the chain"
            return
        try:
            found = await client.balance(watched.vault.account, watched.holding.asset, watched.height)
        except Unavailable as error:
            watched.trouble = error.code
            return
        watched.trouble = ""
        watched.readings.append(ChainReading(height=found.height, amount=found.amount))


def _waiting(held_back: Sequence[Deposit], asset: AssetId, kept: KeptHolding | None) -> int:
    """What is not booked of blocks from the holding's opening on: what lies before is in the opening until it is booked."""
    since = 0 if kept is None else kept.opening_height or 0
    return sum(
        each.transfer.amount
        for each in held_back
        if each.transfer.asset == asset and each.transfer.height >= since
    )
