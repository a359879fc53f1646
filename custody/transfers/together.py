"""Many callers' transfers in one transaction, each with its key, its event and its audit entry, and each answered by itself.

What one transfer does in a dozen statements is done for a whole batch in the same dozen. A refusal writes nothing, as when it is
alone: the batch is rolled back and goes again without those that were refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.events.outbox import Told
from custody.idempotency import service as idempotency
from custody.idempotency.errors import KeyReused
from custody.idempotency.model import KeyUse, Replay
from custody.kernel.errors import CustodyError, InvariantViolated
from custody.kernel.ids import WalletId
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Command, OpenAccount, Outcome, ResultCode
from custody.switches import service as switches
from custody.switches.model import of_asset, of_customer
from custody.switches.service import stopped_by
from custody.transfers.errors import SameWallet
from custody.transfers.model import RequestTransfer, WalletTransfer
from custody.transfers.service import facts_of
from custody.wallets import service as wallets
from custody.wallets.errors import UnknownWallet

DONE = 201
"""HTTP status that is recorded of a transfer that was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedTransfer:
    """A transfer that somebody asks for under a key."""

    use: KeyUse
    """Who asks, and under which key."""
    wanted: RequestTransfer
    """What is to move."""
    trace_id: str | None
    """Of the request."""
    show: Callable[[WalletTransfer], bytes]
    """The answer's body, which is recorded with the key."""


class SomeRefused(Exception):
    """The ledger refused some of a batch. The transaction has to be rolled back, and the others asked for again without them."""

    def __init__(self, refusals: Mapping[int, CustodyError]) -> None:
        """By place in the batch."""
        super().__init__(f"{len(refusals)} refused")
        self.refusals = refusals


AnswerToTransfer = Replay | CustodyError
"""Body and status, or why it was refused."""


async def request_all(uow: UnitOfWork, asked: Sequence[AskedTransfer]) -> list[AnswerToTransfer]:
    """Answer each. Locks the keys, then the ledger accounts, then the audit chain's head. Raises SomeRefused, LedgerBusy."""
    found = await idempotency.begin_all(uow, [each.use for each in asked])
    answers: dict[int, AnswerToTransfer] = {n: each for n, each in enumerate(found) if each is not None}
    first: dict[tuple[object, str], int] = {}
    echoes: dict[int, int] = {}
    for n, each in enumerate(asked):
        name = (each.use.principal.id, each.use.key)
        if n not in answers and first.setdefault(name, n) != n:
            echoes[n] = first[name]
    await _refuse_strangers(uow, asked, answers)
    fresh = [n for n in range(len(asked)) if n not in answers and n not in echoes]
    await _post(uow, [(n, asked[n]) for n in fresh], answers)
    for n, original in echoes.items():
        answers[n] = _echo(asked[n].use, asked[original].use, answers[original])
    return [answers[n] for n in range(len(asked))]


async def _refuse_strangers(
    uow: UnitOfWork, asked: Sequence[AskedTransfer], answers: dict[int, AnswerToTransfer]
) -> None:
    """What can be refused before the ledger is asked: one wallet on both sides, wallets that are nobody's here or not the
    caller's, and what a kill switch stops."""
    named: set[WalletId] = set()
    for n, each in enumerate(asked):
        if n not in answers:
            named |= {each.wanted.source_wallet_id, each.wanted.destination_wallet_id}
    known = {wallet.id: wallet for wallet in await wallets.find_wallets(uow, named)} if named else {}
    stopped = {switch.place: switch for switch in await switches.list_stopped(uow)} if named else {}
    for n, each in enumerate(asked):
        if n in answers:
            continue
        sides = {each.wanted.source_wallet_id, each.wanted.destination_wallet_id}
        owner = each.use.principal.customer
        source = known.get(each.wanted.source_wallet_id)
        if len(sides) == 1:
            answers[n] = SameWallet()
        elif source is None or not sides <= known.keys() or owner not in (None, source.customer_id):
            answers[n] = UnknownWallet()
        else:
            places = [*of_asset(each.wanted.amount.asset), of_customer(source.customer_id)]
            switch = next((stopped[place] for place in places if place in stopped), None)
            if switch is not None:
                answers[n] = stopped_by(switch)


async def _post(
    uow: UnitOfWork, fresh: Sequence[tuple[int, AskedTransfer]], answers: dict[int, AnswerToTransfer]
) -> None:
    if not fresh:
        return
    commands = [_commands(each.wanted) for _, each in fresh]
    accounts = {command.key: None for command in chain(*commands) if isinstance(command, OpenAccount)}
    await ledger.open_missing(uow, list(accounts))
    moves = [[each for each in line if not isinstance(each, OpenAccount)] for line in commands]
    outcomes = iter(await ledger.submit(uow, moves))
    lines = [
        (n, each, line, [next(outcomes) for _ in line]) for (n, each), line in zip(fresh, moves, strict=True)
    ]
    refusals = {n: error for n, _, line, own in lines if (error := _refusal(uow, line, own)) is not None}
    if refusals:
        raise SomeRefused(refusals)
    told: list[Told] = []
    kept: list[tuple[KeyUse, Replay]] = []
    for n, each, _, own in lines:
        booked = _booked(each.wanted, own[0])
        facts = facts_of(booked)
        told.append(Told(type="transfer.posted", object_id=booked.id, data=facts, trace_id=each.trace_id))
        await audit.record(uow, each.use.principal.subject, "transfer.post", booked.id, facts)
        made = Replay(status=DONE, body=each.show(booked), replayed=False)
        kept.append((each.use, made))
        answers[n] = made
    await outbox.emit_all(uow, told)
    await idempotency.record_all(uow, kept)


def _commands(wanted: RequestTransfer) -> tuple[Command, ...]:
    return postings.wallet_transfer(
        transfer_id=wanted.id,
        source_wallet_id=wanted.source_wallet_id,
        destination_wallet_id=wanted.destination_wallet_id,
        amount=wanted.amount,
        fee=wanted.fee,
    )


def _refusal(uow: UnitOfWork, line: Sequence[Command], own: Sequence[Outcome]) -> CustodyError | None:
    refused = [n for n, outcome in enumerate(own) if outcome.result is not ResultCode.APPLIED]
    if not refused:
        return None
    causes = [n for n in refused if own[n].result is not ResultCode.CHAIN_REFUSED]
    blamed = causes[0] if causes else refused[0]
    return ledger.refusal(uow.tenant, line, line[blamed], own[blamed])


def _booked(wanted: RequestTransfer, outcome: Outcome) -> WalletTransfer:
    if outcome.booked_at is None:
        raise InvariantViolated("a transfer was applied at no time", transfer=wanted.id)
    return WalletTransfer(
        id=wanted.id,
        source_wallet_id=wanted.source_wallet_id,
        destination_wallet_id=wanted.destination_wallet_id,
        amount=wanted.amount,
        fee=wanted.fee,
        booked_at=outcome.booked_at,
    )


def _echo(use: KeyUse, original: KeyUse, answer: AnswerToTransfer) -> AnswerToTransfer:
    """The answer to a second caller of the same batch with the same key."""
    if use.fingerprint != original.fingerprint:
        return KeyReused(key=use.key)
    return answer if isinstance(answer, CustodyError) else Replay(status=answer.status, body=answer.body)
