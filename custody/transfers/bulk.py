"""Many transfers in one request: each answered by itself, and groups of them all or none.

Three steps, each safe to repeat. `accept` checks everything that can be checked, opens the accounts and writes what was asked, in
the transaction that records the caller's key. `post` gives the transfers to the batcher, whose batches commit one by one. The ids
follow from the request, so that after any crash the same request finishes what is missing and gets the same answers.

A stop holds for what was accepted and is not posted yet: it waits, and nothing is recorded of it. Nobody comes back to it but the
caller, with the same request, once it goes on: an import that was cut in two by a stop is not carried on behind anybody's back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import Database, ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.ids import TenantId
from custody.ledger import history, postings
from custody.ledger import service as ledger
from custody.ledger.model import Command, OpenAccount, ResultCode, Transfer
from custody.ledger.poster import Lane, Poster
from custody.switches import service as switches
from custody.switches.errors import StoppedBySwitch
from custody.switches.model import Place, of_asset, of_customer
from custody.transfers import store
from custody.transfers.errors import SameWallet, UnknownBulk, UnknownWalletsInBulk
from custody.transfers.model import Bulk, BulkAnswer, BulkTransfer, RequestTransfer
from custody.wallets import service as wallets

Recorded = Mapping[UUID, tuple[ResultCode, datetime | None]]
"""What commands were answered for good, and when."""

transfer_id = store.transfer_id


async def accept(
    uow: UnitOfWork, principal: Principal, bulk_id: UUID, transfers: Sequence[BulkTransfer]
) -> None:
    """Check the request as a whole, write it and open the accounts that it needs. Moves no money.

    Raises SameWallet, UnknownWalletsInBulk, StoppedBySwitch: then nothing of the request is carried out.
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
    await store.insert_bulk(uow, bulk_id, transfers, principal.subject)
    await audit.record(
        uow, principal.subject, "transfer.bulk_request", bulk_id, {"transfers": len(transfers)}
    )


async def post(
    db: Database, poster: Poster, tenant: TenantId, transfers: Sequence[BulkTransfer]
) -> list[BulkAnswer]:
    """Post what was accepted, in the bulk lane, but for what is stopped. Idempotent by the transfers' ids: repeated, it gives the
    recorded answers, and posts what has waited and waits no more.

    Raises LedgerOverloaded (nothing was posted) and LedgerOutcomeUnknown (ask again).
    """
    answers: dict[int, BulkAnswer] = {}
    left = _groups(transfers)
    while left:
        async with db.snapshot(tenant) as session:
            looked = await switches.look(session)
            stopped = await _stopped(session, looked.stopped, transfers, left)
            answers |= await _stand(session, transfers, [left[n] for n in stopped], stopped=True)
        passing = [group for n, group in enumerate(left) if n not in stopped]
        chains = [tuple(_moves(transfers[place].wanted for place in places)) for places in passing]
        outcomes = await poster.submit_all(tenant, chains, lane=Lane.BULK, mark=looked.mark)
        # What a stop overtook has no outcomes: it is looked at again. Each turn is one more stop that somebody has thrown.
        left = [places for places, given in zip(passing, outcomes, strict=True) if not given]
        found: Recorded = {
            each.command_id: (each.result, each.booked_at)
            for given in outcomes
            for each in given
            if each.command_id is not None
        }
        for places, given in zip(passing, outcomes, strict=True):
            if given:
                answers |= {place: _answer(transfers[place].wanted, found) for place in places}
    return [answers[place] for place in range(len(transfers))]


async def get(session: ReadSession, bulk_id: UUID) -> tuple[Bulk, list[BulkAnswer]]:
    """A request as it was accepted, and how each of its transfers stands. Raises UnknownBulk."""
    found = await store.load_bulk(session, bulk_id)
    if found is None:
        raise UnknownBulk(bulk=str(bulk_id))
    groups = _groups(found.transfers)
    looked = await switches.look(session)
    stopped = await _stopped(session, looked.stopped, found.transfers, groups)
    free = [group for n, group in enumerate(groups) if n not in stopped]
    answers = await _stand(session, found.transfers, [groups[n] for n in stopped], stopped=True)
    answers |= await _stand(session, found.transfers, free, stopped=False)
    return found, [answers[place] for place in range(len(found.transfers))]


def _groups(transfers: Sequence[BulkTransfer]) -> list[list[int]]:
    """Places that move together or not at all."""
    groups: dict[object, list[int]] = {}
    for place, each in enumerate(transfers):
        groups.setdefault(place if each.group is None else each.group, []).append(place)
    return list(groups.values())


async def _stopped(
    session: ReadSession,
    standing: Collection[Place],
    transfers: Sequence[BulkTransfer],
    groups: Sequence[Sequence[int]],
) -> set[int]:
    """Which of the groups have a transfer in them that is stopped."""
    if not standing:
        return set()
    sources = {transfers[place].wanted.source_wallet_id for places in groups for place in places}
    customers = {each.id: each.customer_id for each in await wallets.find_wallets(session, sources)}

    def is_stopped(wanted: RequestTransfer) -> bool:
        customer = customers[wanted.source_wallet_id]
        return any(place in standing for place in (*of_asset(wanted.amount.asset), of_customer(customer)))

    return {
        n for n, places in enumerate(groups) if any(is_stopped(transfers[place].wanted) for place in places)
    }


async def _stand(
    session: ReadSession, transfers: Sequence[BulkTransfer], groups: Iterable[Sequence[int]], *, stopped: bool
) -> dict[int, BulkAnswer]:
    """How transfers stand without anything being done for them: as the ledger has recorded it, or waiting."""
    asked = {place: transfers[place].wanted for places in groups for place in places}
    if not asked:
        return {}
    found = await history.recorded(session, [leg for each in asked.values() for leg in _legs(each)])
    waits = StoppedBySwitch.code if stopped else None
    return {
        place: _answer(wanted, found)
        if wanted.id in found
        else BulkAnswer(id=wanted.id, state="waiting", code=waits, booked_at=None)
        for place, wanted in asked.items()
    }


def _moves(wanted: Iterable[RequestTransfer]) -> Iterable[Transfer]:
    return (command for command in _commands(wanted) if isinstance(command, Transfer))


def _legs(wanted: RequestTransfer) -> tuple[UUID, ...]:
    """The ledger's ids of the amount and, where there is one, of the fee."""
    return (wanted.id,) if wanted.fee is None else (wanted.id, postings.fee_id(wanted.id))


def _commands(wanted: Iterable[RequestTransfer]) -> Iterable[Command]:
    for each in wanted:
        yield from postings.wallet_transfer(
            transfer_id=each.id,
            source_wallet_id=each.source_wallet_id,
            destination_wallet_id=each.destination_wallet_id,
            amount=each.amount,
            fee=each.fee,
        )


def _answer(wanted: RequestTransfer, found: Recorded) -> BulkAnswer:
    """One answer for amount and fee: the leg that was refused for a reason of its own says why."""
    legs = [found[leg] for leg in _legs(wanted)]
    refused = [result for result, _ in legs if result is not ResultCode.APPLIED]
    if not refused:
        return BulkAnswer(id=wanted.id, state="posted", code=None, booked_at=legs[0][1])
    causes = [result for result in refused if result is not ResultCode.CHAIN_REFUSED]
    return BulkAnswer(id=wanted.id, state="refused", code=(causes or refused)[0].value, booked_at=None)
