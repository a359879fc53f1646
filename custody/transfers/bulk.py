"""Many transfers in one request: each answered by itself, and groups of them all or none.

Three steps, each safe to repeat. `accept` checks everything that can be checked, opens the accounts and writes who asked, in the
transaction that records the caller's key. `post` gives the transfers to the batcher, whose batches commit one by one. The ids
follow from the request, so that after any crash the same request finishes what is missing and gets the same answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.identity.model import Principal
from custody.kernel.ids import TenantId, TransferId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Command, OpenAccount, Outcome, ResultCode
from custody.ledger.poster import Lane, Poster
from custody.switches import service as switches
from custody.switches.model import of_asset, of_customer
from custody.transfers.errors import SameWallet, UnknownWalletsInBulk
from custody.transfers.model import RequestTransfer
from custody.wallets import service as wallets


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkTransfer:
    """One of many transfers."""

    wanted: RequestTransfer
    """What is to move."""
    group: str | None
    """The caller's name of a group that moves together or not at all. None for a transfer by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkAnswer:
    """What became of one of many transfers."""

    id: TransferId
    """Of the transfer."""
    result: ResultCode
    """APPLIED, or why not. CHAIN_REFUSED means that another transfer of its group was refused."""
    booked_at: datetime | None
    """When it was booked, by the database's clock; None for a refusal."""


def transfer_id(bulk_id: UUID, place: int) -> TransferId:
    """The id of the transfer at a place of a request: the same each time the request is repeated."""
    return TransferId(derived_uuid("bulk_transfer", bulk_id, place))


async def accept(
    uow: UnitOfWork, principal: Principal, bulk_id: UUID, transfers: Sequence[BulkTransfer]
) -> None:
    """Check the request as a whole and open the accounts that it needs. Moves no money.

    Raises SameWallet, UnknownWalletsInBulk, StoppedBySwitch: then nothing of the request is carried out. What is accepted is
    posted, also if a switch comes in between.
    """
    wanted = [each.wanted for each in transfers]
    for place, each in enumerate(wanted):
        if each.source_wallet_id == each.destination_wallet_id:
            raise SameWallet(place=place)
    named = {each.source_wallet_id for each in wanted} | {each.destination_wallet_id for each in wanted}
    found = await wallets.find_wallets(uow, named)
    known = {wallet.id for wallet in found}
    sources, held = {each.source_wallet_id for each in wanted}, {each.amount.asset for each in wanted}
    if named - known:
        raise UnknownWalletsInBulk(
            places=[
                place
                for place, each in enumerate(wanted)
                if not {each.source_wallet_id, each.destination_wallet_id} <= known
            ][:20]
        )
    customers = {wallet.customer_id for wallet in found if wallet.id in sources}
    await switches.refuse_stopped(
        uow,
        [*map(of_customer, customers), *(place for asset in held for place in of_asset(asset))],
    )
    keys = {command.key: None for command in _commands(wanted) if isinstance(command, OpenAccount)}
    await ledger.open_missing(uow, list(keys))
    await audit.record(
        uow, principal.subject, "transfer.bulk_request", bulk_id, {"transfers": len(transfers)}
    )


async def post(poster: Poster, tenant: TenantId, transfers: Sequence[BulkTransfer]) -> list[BulkAnswer]:
    """Post what was accepted, in the bulk lane. Idempotent by the transfers' ids: repeated, it gives the recorded answers.

    Raises LedgerOverloaded (nothing was posted) and LedgerOutcomeUnknown (ask again).
    """
    lines: dict[object, list[int]] = {}
    for place, each in enumerate(transfers):
        lines.setdefault(place if each.group is None else each.group, []).append(place)
    chains = [
        tuple(
            command
            for command in _commands(transfers[place].wanted for place in places)
            if not isinstance(command, OpenAccount)
        )
        for places in lines.values()
    ]
    answered = await poster.submit_all(tenant, chains, lane=Lane.BULK)
    answers: dict[int, BulkAnswer] = {}
    for places, outcomes in zip(lines.values(), answered, strict=True):
        rest = iter(outcomes)
        for place in places:
            wanted = transfers[place].wanted
            own = [next(rest) for _ in range(1 if wanted.fee is None else 2)]
            answers[place] = _answer(wanted.id, own)
    return [answers[place] for place in range(len(transfers))]


def _commands(wanted: Iterable[RequestTransfer]) -> Iterable[Command]:
    for each in wanted:
        yield from postings.wallet_transfer(
            transfer_id=each.id,
            source_wallet_id=each.source_wallet_id,
            destination_wallet_id=each.destination_wallet_id,
            amount=each.amount,
            fee=each.fee,
        )


def _answer(transfer: TransferId, legs: Sequence[Outcome]) -> BulkAnswer:
    """One answer for amount and fee: the leg that was refused for a reason of its own says why."""
    refused = [leg for leg in legs if leg.result is not ResultCode.APPLIED]
    causes = [leg for leg in refused if leg.result is not ResultCode.CHAIN_REFUSED]
    said = (causes or refused or list(legs))[0]
    return BulkAnswer(id=transfer, result=said.result, booked_at=None if refused else legs[0].booked_at)
