"""The ledger once more, in plain Python: what the posting function is compared with. Slow, obvious, without a database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.money import MAX_ATOMIC
from custody.ledger import model as m

ASSETS = {m.AccountKind.VAULT, m.AccountKind.BANK, m.AccountKind.IN_TRANSIT}
DEBIT_NORMAL = ASSETS | {m.AccountKind.NETWORK_FEES}
GUARDED = {m.AccountKind.WALLET, m.AccountKind.SUSPENSE, m.AccountKind.ISSUANCE}
GUARDED_FROM_HOLDS = GUARDED | ASSETS


DAWN = datetime.min.replace(tzinfo=UTC)


class Refused(Exception):
    """Carries a result code."""


class Answer(NamedTuple):
    result: str
    debit_version: int | None = None
    debit_balance: int | None = None
    credit_version: int | None = None
    credit_balance: int | None = None


@dataclass
class Books:
    """One account: what is posted and what is held on either side."""

    key: m.AccountKey
    debits: int = 0
    credits: int = 0
    debits_held: int = 0
    credits_held: int = 0
    version: int = 0
    state: str = "open"
    floor: int = 0
    ceiling: int | None = None

    @property
    def balance(self) -> int:
        return (self.debits - self.credits) * (1 if self.key.kind in DEBIT_NORMAL else -1)

    @property
    def incoming(self) -> int:
        return self.debits_held if self.key.kind in DEBIT_NORMAL else self.credits_held

    @property
    def held(self) -> int:
        return self.credits_held if self.key.kind in DEBIT_NORMAL else self.debits_held


@dataclass
class Held:
    command: m.Hold
    remaining: int


@dataclass
class State:
    """All that a refused chain must leave as it was."""

    accounts: dict[m.AccountKey, Books] = field(default_factory=dict)
    holds: dict[UUID, Held] = field(default_factory=dict)
    moved: dict[UUID, tuple[m.AccountKey, m.AccountKey, int, bool]] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)

    def copy(self) -> State:
        """Another state, equal now and free to become different."""
        return State(
            accounts={key: replace(books) for key, books in self.accounts.items()},
            holds={id_: replace(held) for id_, held in self.holds.items()},
            moved=dict(self.moved),
            reversed=set(self.reversed),
        )


class Oracle:
    """Answers chains as the ledger should."""

    def __init__(self, listed: set[AssetId]) -> None:
        self.listed, self.state = listed, State()
        self.recorded: dict[UUID, tuple[m.Command, Answer]] = {}

    def submit(self, chains: Sequence[Sequence[m.Command]]) -> list[Answer]:
        return [answer for chain in chains for answer in self._chain(chain)]

    def would_answer(self, chain: Sequence[m.Command], unseen: Collection[UUID] = ()) -> list[Answer]:
        """What the chain would be answered now, if these holds and transfers were not there. Nothing is changed or recorded."""
        trial = Oracle(self.listed)
        trial.state, trial.recorded = self.state.copy(), dict(self.recorded)
        for id_ in unseen:
            trial.state.holds.pop(id_, None)
            trial.state.moved.pop(id_, None)
        return trial.submit([chain])

    def _chain(self, chain: Sequence[m.Command]) -> list[Answer]:
        before, failed = self.state.copy(), False
        answers: list[Answer] = []
        fresh: dict[UUID, tuple[m.Command, int]] = {}
        for n, command in enumerate(chain):
            body = replace(command, as_of=DAWN) if isinstance(command, m.ExpireHold) else command
            if isinstance(command, m.OpenAccount):
                answers.append(self._attempt(command))
            elif command.id in self.recorded:
                known, answer = self.recorded[command.id]
                answers.append(answer if known == body else Answer("transfer_exists_different"))
            elif command.id in fresh:
                known, twin = fresh[command.id]
                answers.append(answers[twin] if known == body else Answer("transfer_exists_different"))
            else:
                fresh[command.id] = body, n
                answers.append(Answer("chain_refused") if failed else self._attempt(command))
            if answers[n].result != "applied" and not failed:
                failed, self.state = True, before
                for index, earlier in enumerate(chain[:n]):
                    if isinstance(earlier, m.OpenAccount):
                        self.state.accounts.setdefault(earlier.key, opened(earlier))
                    elif earlier.id in fresh:
                        answers[index] = Answer("chain_refused")
        self.recorded |= {id_: (body, answers[n]) for id_, (body, n) in fresh.items()}
        return answers

    def _attempt(self, command: m.Command) -> Answer:
        try:
            return self._apply(command)
        except Refused as refused:
            return Answer(str(refused))

    def _apply(self, command: m.Command) -> Answer:
        match command:
            case m.OpenAccount(key=key, floor=floor, ceiling=ceiling):
                require(key.asset in self.listed, "unknown_asset")
                account = self.state.accounts.setdefault(key, opened(command))
                require(floor in (None, account.floor), "account_exists_different")
                require(ceiling in (None, account.ceiling), "account_exists_different")
                return Answer("applied")
            case m.ChangeAccount(key=key, event=event):
                account = self._account(key)
                require(account.state != "closed", "account_closed")
                require((event, account.state) != ("freeze", "frozen"), "account_frozen")
                require((event, account.state) != ("unfreeze", "open"), "account_not_frozen")
                used = account.balance or account.debits_held or account.credits_held
                require(event != "close" or not used, "account_not_empty")
                account.state = {"freeze": "frozen", "unfreeze": "open", "close": "closed"}[event]
                return Answer("applied")
            case m.Reverse(transfer_id=target):
                require(target in self.state.moved, "transfer_not_found")
                debit, credit, posted, reversible = self.state.moved[target]
                require(reversible, "not_reversible")
                require(target not in self.state.reversed, "already_reversed")
                answer = self._move(command.id, credit, debit, posted, 0, reversible=False)
                self.state.reversed.add(target)
                return answer
            case m.Transfer(debit=debit, credit=credit, amount=amount):
                require_amount(amount.atomic)
                require(debit != credit, "same_account")
                return self._move(command.id, debit, credit, amount.atomic, 0, reversible=True)
            case m.Hold(debit=debit, credit=credit, amount=amount):
                require_amount(amount.atomic)
                require(debit != credit, "same_account")
                answer = self._move(command.id, debit, credit, 0, amount.atomic, reversible=False)
                self.state.holds[command.id] = Held(command, amount.atomic)
                return answer
        require(command.hold_id in self.state.holds, "hold_not_found")
        hold = self.state.holds[command.hold_id]
        require(hold.remaining > 0, "hold_not_open")
        posted, pending = 0, -hold.remaining
        if isinstance(command, m.ExpireHold):
            due = hold.command.expires_at
            require(due is not None and due <= command.as_of, "hold_not_due")
        if isinstance(command, m.PostHold):
            posted = hold.remaining if command.amount is None else command.amount.atomic
            pending = -hold.remaining if command.final else -posted
            require_amount(posted)
            asset = hold.command.amount.asset
            require(command.amount is None or command.amount.asset == asset, "asset_mismatch")
            require(posted <= hold.remaining, "hold_exceeded")
        debit, credit, posts = hold.command.debit, hold.command.credit, isinstance(command, m.PostHold)
        answer = self._move(command.id, debit, credit, posted, pending, reversible=posts)
        hold.remaining += pending
        return answer

    def _move(
        self, id_: UUID, dr: m.AccountKey, cr: m.AccountKey, posted: int, pending: int, *, reversible: bool
    ) -> Answer:
        debit, credit = self._account(dr), self._account(cr)
        if (wanted := posted + pending) > 0:
            lowered = [a for a in (debit, credit) if (a is debit) != (a.key.kind in DEBIT_NORMAL)]
            require("closed" not in (debit.state, credit.state), "account_closed")
            require(all(a.state != "frozen" for a in lowered), "account_frozen")
            fullest = max(debit.debits + debit.debits_held, credit.credits + credit.credits_held)
            require(fullest + wanted <= MAX_ATOMIC, "amount_too_large")
            guarded = [a for a in lowered if a.key.kind in (GUARDED_FROM_HOLDS if pending else GUARDED)]
            require(all(a.balance - a.held - wanted >= a.floor for a in guarded), "insufficient_funds")
            raised = [a for a in (debit, credit) if a not in lowered and a.ceiling is not None]
            require(all(a.balance + a.incoming + wanted <= a.ceiling for a in raised), "exceeds_ceiling")
        debit.debits, credit.credits = debit.debits + posted, credit.credits + posted
        debit.debits_held, credit.credits_held = debit.debits_held + pending, credit.credits_held + pending
        debit.version, credit.version = debit.version + 1, credit.version + 1
        self.state.moved[id_] = (dr, cr, posted, reversible)
        return Answer("applied", debit.version, debit.balance, credit.version, credit.balance)

    def _account(self, key: m.AccountKey) -> Books:
        require(key in self.state.accounts, "unknown_account")
        return self.state.accounts[key]


def opened(command: m.OpenAccount) -> Books:
    return Books(command.key, floor=command.floor or 0, ceiling=command.ceiling)


def require(condition: bool, code: str) -> None:
    if not condition:
        raise Refused(code)


def require_amount(atomic: int) -> None:
    require(atomic > 0, "amount_not_positive")
    require(atomic <= MAX_ATOMIC, "amount_too_large")
