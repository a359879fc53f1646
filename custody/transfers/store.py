"""SQL of requests for many transfers."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import insert, select

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TransferId, WalletId, derived_uuid
from custody.kernel.money import Amount
from custody.transfers.model import Bulk, BulkTransfer, RequestTransfer
from custody.transfers.tables import bulk_transfers


def transfer_id(bulk_id: UUID, place: int) -> TransferId:
    """The id of the transfer at a place of a request: the same each time the request is repeated."""
    return TransferId(derived_uuid("bulk_transfer", bulk_id, place))


async def insert_bulk(
    uow: UnitOfWork, bulk_id: UUID, transfers: Sequence[BulkTransfer], requested_by: str
) -> None:
    """Write a request as it was accepted."""
    wanted = [each.wanted for each in transfers]
    await uow.conn.execute(
        insert(bulk_transfers).values(
            tenant_id=uow.tenant,
            id=bulk_id,
            sources=[each.source_wallet_id for each in wanted],
            destinations=[each.destination_wallet_id for each in wanted],
            assets=[each.amount.asset.text for each in wanted],
            amounts=[each.amount.atomic for each in wanted],
            fees=[None if each.fee is None else each.fee.atomic for each in wanted],
            groups=[each.group for each in transfers],
            requested_by=requested_by,
        )
    )


async def load_bulk(session: ReadSession, bulk_id: UUID) -> Bulk | None:
    """A request of this tenant."""
    rows = await session.conn.execute(
        select(bulk_transfers).where(
            bulk_transfers.c.tenant_id == session.tenant, bulk_transfers.c.id == bulk_id
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    lines = zip(row.sources, row.destinations, row.assets, row.amounts, row.fees, row.groups, strict=True)
    return Bulk(
        id=row.id,
        transfers=[
            BulkTransfer(
                wanted=RequestTransfer(
                    id=transfer_id(row.id, place),
                    source_wallet_id=WalletId(source),
                    destination_wallet_id=WalletId(destination),
                    amount=Amount(parse_asset_id(asset), amount),
                    fee=None if fee is None else Amount(parse_asset_id(asset), fee),
                ),
                group=group,
            )
            for place, (source, destination, asset, amount, fee, group) in enumerate(lines)
        ],
        requested_by=row.requested_by,
        created_at=row.created_at,
    )
