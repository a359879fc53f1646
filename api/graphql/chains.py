"""Chains: how far they are followed, what stops them, what a person should see of them, and what vaults hold on them."""

from __future__ import annotations

from datetime import datetime

import strawberry
from strawberry.types import Info

from api.chain_status import ChainStatus, load_statuses
from api.graphql.connections import FIRST_DEFAULT, After, Connection, First, checked, connect
from api.graphql.context import Context
from api.graphql.holdings import (
    MEMO_REQUIRED,
    BreakState,
    Holding,
    HoldingBreak,
    HoldingComparison,
    VaultAccount,
    show_comparison,
    show_holding,
    show_holding_break,
    show_vault_account,
)
from api.paging import parse_number_cursor
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.holdings.model import ChainHalt as HaltModel
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.errors import NotFound
from custody.kernel.ids import VaultId, parse_id, show_id
from custody.wallets import service as wallets
from ingestion import notices
from ingestion.notices import KeptNotice

Ctx = Info[Context, None]

HALTS_MAX = 20
"""Halts that are shown of one chain, the newest."""
NOTICES_LOOKED_AT = 200
"""Notices of a chain, the newest, out of which a tenant is shown those that concern it."""


@strawberry.type
class ChainHalt:
    """A chain on which nothing is credited or confirmed, because it was reorganised deeper than finality. `state` is `halted`
    until a person has decided, and `resumed`, `kept` or `returned` when it has ended."""

    id: strawberry.ID
    state: str
    fork_height: str
    our_height: str
    final_height: str
    seen_height: str
    marks_spent: bool
    note: str | None
    trouble: str | None
    opened_at: datetime
    changed_at: datetime


@strawberry.type
class ChainNotice:
    """What a person should see of a block. It stopped nothing: what must not be believed was not booked. `replaced`: the
    chain has left that block since."""

    id: strawberry.ID
    code: str
    height: str
    account: str | None
    asset: str | None
    reported: str
    found: str
    replaced: bool
    seen: bool
    noticed_at: datetime


@strawberry.type
class Chain:
    """Where one chain stands. Heights are null while they are not known. `lastBlockAt`: the chain's own time at the cursor.
    `sendingStop`: why nothing new is signed or sent on it, `chain_halted` or `chain_not_followed`; null while nothing does."""

    chain: str
    cursor_height: str | None
    final_height: str | None
    head_height: str | None
    lag_blocks: str | None
    last_block_at: datetime | None
    sending_stop: str | None

    @strawberry.field
    async def halt(self, info: Ctx) -> ChainHalt | None:
        """What stops it now; null while it runs."""
        async with info.context.turn() as session:
            found = await halts.find_open(session, ChainId(self.chain))
        return None if found is None else show_halt(found)

    @strawberry.field
    async def halts(self, info: Ctx) -> list[ChainHalt]:
        """Its halts so far, newest first; at most twenty."""
        async with info.context.turn() as session:
            found = await halts.list_halts(session, ChainId(self.chain), limit=HALTS_MAX)
        info.context.budget.spend(len(found))
        return [show_halt(each) for each in found]

    @strawberry.field
    async def notices(self, info: Ctx, unseen: bool = False) -> list[ChainNotice]:  # noqa: FBT001 - the argument's public form
        """Those of its newest two hundred notices that concern an asset as such or an account of yours, newest first."""
        chain = ChainId(self.chain)
        async with info.context.turn() as session:
            found = await notices.list_notices(session, chain, unseen=unseen, limit=NOTICES_LOOKED_AT)
            accounts = {each.notice.account for each in found} - {""}
            ours = {
                ref.account
                for ref in await wallets.find_vaults(session, chain, accounts)
                if ref.tenant == session.tenant
            }
        shown = [show_notice(each) for each in found if each.notice.account in ours | {""}]
        info.context.budget.spend(len(shown))
        return shown


@strawberry.type
class ChainQueries:
    """What is asked about chains and about what vaults hold on them."""

    @strawberry.field
    async def chains(self, info: Ctx) -> list[Chain]:
        """All configured chains."""
        async with info.context.turn() as session:
            found = await load_statuses(
                session, info.context.caller.app.settings, info.context.heads, of_tenant=True
            )
        return [show_chain(status) for status in found]

    @strawberry.field
    async def holdings(self, info: Ctx, vault_id: strawberry.ID) -> list[Holding]:
        """What a vault holds on chain, by the ledger's own entries; only what a block has touched since they are read."""
        vault = VaultId(parse_id("vlt", str(vault_id)))
        async with info.context.turn() as session:
            found = await holdings.list_holdings(session, [vault])
        info.context.budget.spend(len(found))
        return [show_holding(each) for each in found]

    @strawberry.field
    async def holding_comparisons(
        self,
        info: Ctx,
        vault_id: strawberry.ID,
        asset: str,
        first: First = FIRST_DEFAULT,
        after: After = None,
    ) -> Connection[HoldingComparison]:
        """Books and chain of one vault and asset at every height at which either changed, newest first."""
        before = parse_number_cursor("comparisons", after)
        vault, wanted = VaultId(parse_id("vlt", str(vault_id))), parse_asset_id(asset)
        async with info.context.turn() as session:
            found = await holdings.list_comparisons(
                session, vault, wanted, before=before, limit=checked(first) + 1
            )
        return connect("comparisons", found, first, after, key=lambda row: row.height, show=show_comparison)

    @strawberry.field
    async def holding_breaks(
        self, info: Ctx, state: BreakState | None = None, first: First = FIRST_DEFAULT, after: After = None
    ) -> Connection[HoldingBreak]:
        """Differences between books and chain, newest first."""
        before = parse_number_cursor("breaks", after)
        async with info.context.turn() as session:
            found = await holdings.list_breaks(
                session, state=None if state is None else state.value, before=before, limit=checked(first) + 1
            )
        return connect(
            "breaks",
            found,
            first,
            after,
            key=lambda row: row[0],
            show=lambda row: show_holding_break(row[1]),
        )

    @strawberry.field
    async def vault_account(self, info: Ctx, vault_id: strawberry.ID) -> VaultAccount | None:
        """A vault's account by the chain's own state; null while no block has touched it. EVM: nonce and ether since it sent."""
        wanted = VaultId(parse_id("vlt", str(vault_id)))
        try:
            async with info.context.turn() as session:
                vault = await wallets.get_vault(session, wanted)
                found = await holdings.find_account(session, wanted, vault.account)
                memo = await holdings.find_datum(session, wanted, vault.account, MEMO_REQUIRED)
        except NotFound:
            return None
        return None if found is None else show_vault_account(*found, memo)


def show_chain(status: ChainStatus) -> Chain:
    """One chain."""
    return Chain(
        chain=status.chain,
        cursor_height=_text(status.cursor_height),
        final_height=_text(status.final_height),
        head_height=_text(status.head_height),
        lag_blocks=_text(status.lag_blocks),
        last_block_at=status.last_block_at,
        sending_stop=status.sending_stop,
    )


def show_halt(found: HaltModel) -> ChainHalt:
    """One halt. Who decided is the operators' business: a chain is not one tenant's."""
    return ChainHalt(
        id=strawberry.ID(show_id("hlt", found.id)),
        state=found.state,
        fork_height=str(found.fork.fork_height),
        our_height=str(found.fork.our_height),
        final_height=str(found.fork.final_height),
        seen_height=str(found.fork.seen_height),
        marks_spent=found.marks_spent,
        note=found.note or None,
        trouble=found.trouble or None,
        opened_at=found.opened_at,
        changed_at=found.changed_at,
    )


def show_notice(kept: KeptNotice) -> ChainNotice:
    """One notice."""
    return ChainNotice(
        id=strawberry.ID(show_id("ntc", kept.id)),
        code=kept.notice.code,
        height=str(kept.height),
        account=kept.notice.account or None,
        asset=kept.notice.asset or None,
        reported=kept.notice.reported,
        found=kept.notice.found,
        replaced=kept.replaced,
        seen=bool(kept.seen_by),
        noticed_at=kept.noticed_at,
    )


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
