"""The ledger once more, in plain Python: what the posting function is compared with. Slow, obvious, without a database."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.money import MAX_ATOMIC
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    ChangeAccount,
    Command,
    ExpireHold,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
)

DEBIT_NORMAL = {AccountKind.VAULT, AccountKind.BANK, AccountKind.NETWORK_FEES}
GUARDED = {AccountKind.WALLET, AccountKind.SUSPENSE}
GUARDED_BY_HOLDS = {AccountKind.VAULT, AccountKind.BANK}


class Refused(Exception):
    """Carries a result code."""


class Answer(NamedTuple):
    """What the oracle says of one command."""

    result: str
    debit_version: int | None = None
    debit_balance: int | None = None
    credit_version: int | None = None
    credit_balance: int | None = None


@dataclass
class Books:
    """One account: posted and held on either side."""

    key: AccountKey
    debits: int = 0
    credits: int = 0
    debits_held: int = 0
    credits_held: int = 0
    version: int = 0
    state: str = "open"

    @property
    def balance(self) -> int:
        net = self.debits - self.credits
        return net if self.key.kind in DEBIT_NORMAL else -net

    @property
    def held(self) -> int:
        return self.credits_held if self.key.kind in DEBIT_NORMAL else self.debits_held


@dataclass
class Held:
    """One hold."""

    command: Hold
    remaining: int


@dataclass
class State:
    """All that a refused chain must leave as it was."""

    accounts: dict[AccountKey, Books] = field(default_factory=dict)
    holds: dict[UUID, Held] = field(default_factory=dict)
    moved: dict[UUID, tuple[AccountKey, AccountKey, int, bool]] = field(default_factory=dict)
    reversed: set[UUID] = field(default_factory=set)


class Oracle:
    """Answers chains as the ledger should."""

    def __init__(self, listed: set[AssetId]) -> None:
        self.listed = listed
        self.state = State()
        self.recorded: dict[UUID, tuple[Command, Answer]] = {}

    def submit(self, chains: Sequence[Sequence[Command]]) -> list[Answer]:
        return [answer for chain in chains for answer in self._chain(chain)]

    def _chain(self, chain: Sequence[Command]) -> list[Answer]:
        before, answers, failed = copy.deepcopy(self.state), [], False
        fresh: dict[UUID, tuple[int, Command]] = {}
        for n, command in enumerate(chain):
            body = replace(command, as_of=None) if isinstance(command, ExpireHold) else command
            try:
                if isinstance(command, OpenAccount):
                    answer = self._open(command)
                elif (known := self.recorded.get(command.id)) is not None:
                    answer = known[1] if known[0] == body else Answer("transfer_exists_different")
                elif (twin := fresh.get(command.id)) is not None:
                    answer = answers[twin[0]] if twin[1] == body else Answer("transfer_exists_different")
                else:
                    fresh[command.id] = (n, body)
                    answer = Answer("chain_refused") if failed else self._apply(command)
            except Refused as refused:
                answer = Answer(str(refused))
            answers.append(answer)
            if answer.result != "applied" and not failed:
                failed, opened = True, [c.key for c in chain[:n] if isinstance(c, OpenAccount)]
                self.state = before
                for key in opened:
                    self.state.accounts.setdefault(key, Books(key))
                for m, earlier in enumerate(chain[:n]):
                    if not isinstance(earlier, OpenAccount) and earlier.id in fresh:
                        answers[m] = Answer("chain_refused")
        self.recorded |= {id_: (body, answers[n]) for id_, (n, body) in fresh.items()}
        return answers

    def _open(self, command: OpenAccount) -> Answer:
        if command.key.asset not in self.listed:
            raise Refused("unknown_asset")
        self.state.accounts.setdefault(command.key, Books(command.key))
        return Answer("applied")

    def _apply(self, command: Command) -> Answer:
        match command:
            case Transfer() | Hold():
                self._check_amount(command.amount.atomic)
                if command.debit == command.credit:
                    raise Refused("same_account")
                held = isinstance(command, Hold)
                posted, pending = (0, command.amount.atomic) if held else (command.amount.atomic, 0)
                answer = self._move(command.debit, command.credit, posted, pending)
                if isinstance(command, Hold):
                    self.state.holds[command.id] = Held(command, pending)
                self.state.moved[command.id] = (command.debit, command.credit, posted, not held)
                return answer
            case Reverse(transfer_id=target):
                if target not in self.state.moved:
                    raise Refused("transfer_not_found")
                debit, credit, posted, reversible = self.state.moved[target]
                if not reversible:
                    raise Refused("not_reversible")
                if target in self.state.reversed:
                    raise Refused("already_reversed")
                answer = self._move(credit, debit, posted, 0)
                self.state.reversed.add(target)
                self.state.moved[command.id] = (credit, debit, posted, False)
                return answer
            case ChangeAccount():
                return self._change(command)
            case OpenAccount():
                return self._open(command)
            case _:
                return self._end_hold(command)

    def _end_hold(self, command: Command) -> Answer:
        hold = self.state.holds.get(command.hold_id)
        if hold is None:
            raise Refused("hold_not_found")
        if hold.remaining == 0:
            raise Refused("hold_not_open")
        posted, pending = 0, -hold.remaining
        if isinstance(command, ExpireHold):
            due = hold.command.expires_at
            if due is None or due > command.as_of:
                raise Refused("hold_not_due")
        if isinstance(command, PostHold):
            posted = hold.remaining if command.amount is None else command.amount.atomic
            pending = -hold.remaining if command.final else -posted
            self._check_amount(posted)
            if command.amount and command.amount.asset != hold.command.amount.asset:
                raise Refused("asset_mismatch")
            if posted > hold.remaining:
                raise Refused("hold_exceeded")
        answer = self._move(hold.command.debit, hold.command.credit, posted, pending)
        hold.remaining += pending
        posts = isinstance(command, PostHold)
        self.state.moved[command.id] = (hold.command.debit, hold.command.credit, posted, posts)
        return answer

    def _change(self, command: ChangeAccount) -> Answer:
        account = self._account(command.key)
        if account.state == "closed":
            raise Refused("account_closed")
        if command.event == "freeze" and account.state == "frozen":
            raise Refused("account_frozen")
        if command.event == "unfreeze" and account.state == "open":
            raise Refused("account_not_frozen")
        if command.event == "close" and (account.balance or account.debits_held or account.credits_held):
            raise Refused("account_not_empty")
        account.state = {"freeze": "frozen", "unfreeze": "open", "close": "closed"}[command.event]
        return Answer("applied")

    def _move(self, debit_key: AccountKey, credit_key: AccountKey, posted: int, pending: int) -> Answer:
        debit, credit = self._account(debit_key), self._account(credit_key)
        if (wanted := posted + pending) > 0:
            lowered = [a for a in (debit, credit) if (a is debit) != (a.key.kind in DEBIT_NORMAL)]
            if "closed" in (debit.state, credit.state):
                raise Refused("account_closed")
            if any(account.state == "frozen" for account in lowered):
                raise Refused("account_frozen")
            sides = (debit.debits + debit.debits_held, credit.credits + credit.credits_held)
            if max(sides) + wanted > MAX_ATOMIC:
                raise Refused("amount_too_large")
            guarded = GUARDED | (GUARDED_BY_HOLDS if pending else set())
            if any(a.key.kind in guarded and a.balance - a.held < wanted for a in lowered):
                raise Refused("insufficient_funds")
        debit.debits, credit.credits = debit.debits + posted, credit.credits + posted
        debit.debits_held, credit.credits_held = debit.debits_held + pending, credit.credits_held + pending
        debit.version, credit.version = debit.version + 1, credit.version + 1
        return Answer("applied", debit.version, debit.balance, credit.version, credit.balance)

    def _account(self, key: AccountKey) -> Books:
        if key not in self.state.accounts:
            raise Refused("unknown_account")
        return self.state.accounts[key]

    @staticmethod
    def _check_amount(atomic: int) -> None:
        if atomic <= 0:
            raise Refused("amount_not_positive")
        if atomic > MAX_ATOMIC:
            raise Refused("amount_too_large")
