"""Random requests, deaths at random steps, an HSM that fails and a clock that moves, against what must hold whatever happens.

One account with three nonces, one limit, a handful of intents: everything collides with everything.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from signer.anchor import PLACES
from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.messages import Sign, Signed, Veto, Vetoed
from signer.refusal import HsmFault, Refusal
from tests.fakes.signer_desk import Desk, approved, make_key
from tests.fakes.signer_disk import dying_disk
from tests.fakes.signer_hsm import Crash, FakeToken
from tests.fakes.signer_people import approve, bind_evm, make_policy, make_transfer

LIMIT = 10
INTENTS = 6
NONCES = 3
LIFETIME_S = 40
WINDOW_S = 1000

picks = st.lists(st.tuples(st.integers(0, INTENTS - 1), st.integers(0, NONCES - 1)), min_size=1, max_size=4)


class SignerMachine(RuleBasedStateMachine):
    """One signer with many lives."""

    @initialize()
    def start(self) -> None:
        self.stack = ExitStack()
        directory = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        policy = make_policy()
        for one in policy["allow"]:  # type: ignore[attr-defined]
            if one["id"] == "evm":
                one["asset"] = "native"
                one["windows"] = [{"seconds": WINDOW_S, "amount_max": str(LIMIT), "count_max": 1000}]
        self.token = FakeToken()
        self.stack.enter_context(dying_disk(self.token))
        self.desk = Desk(directory=directory, token=self.token, policy=policy)
        self.decider: Decider = self.desk.start()
        self.key = make_key(self.decider)
        self.token.between = self.look
        self.began = self.token.now
        self.intents = [self.make_intent(number) for number in range(INTENTS)]
        self.answers: dict[bytes, Signed] = {}
        self.owners: dict[int, bytes] = {}
        self.vetoed: set[bytes] = set()

    def make_intent(self, number: int) -> bytes:
        expires_at = self.token.now + LIFETIME_S * (1 + number % 2)
        intent = make_transfer(self.key, self.token.now, amount=number + 1, expires_at=expires_at)
        return canonical.encode(intent)

    def teardown(self) -> None:
        if self.desk.record is not None:
            self.desk.record.close()
        self.stack.close()

    @rule(chosen=picks, crash=st.integers(0, 40), quorum=st.booleans())
    def sign(self, chosen: list[tuple[int, int]], crash: int, quorum: bool) -> None:
        names = ("alice", "bob") if quorum else ("alice",)
        requests = [
            replace(approved(canonical.decode(self.intents[number]), bind_evm(nonce), *names))
            for number, nonce in chosen
        ]
        self.arm(crash)
        with suppress(Crash):
            for request, outcome in zip(requests, self.decider.sign_all(requests), strict=True):
                if isinstance(outcome, Signed):
                    self.remember(request, outcome)
        self.revive()

    @rule(number=st.integers(0, INTENTS - 1), crash=st.integers(0, 12))
    def veto(self, number: int, crash: int) -> None:
        data = self.intents[number]
        self.arm(crash)
        try:
            answer = self.decider.veto(Veto(intent=data, approvals=approve(data, "carol", decision="reject")))
            assert isinstance(answer, Vetoed)
            assert canonical.digest(data) not in self.answers
            self.vetoed.add(canonical.digest(data))
        except (Crash, Refusal, HsmFault):
            pass
        self.revive()

    @rule(call=st.sampled_from(["", "mac", "sign", "anchor", "write", "fsync"]))
    def break_something(self, call: str) -> None:
        self.token.failing = call if call in ("mac", "sign", "anchor") else ""
        self.token.broken_disk = "" if self.token.failing else call

    @rule(seconds=st.integers(1, 30))
    def wait(self, seconds: int) -> None:
        self.token.now += seconds

    @rule()
    def restart(self) -> None:
        self.token.failing = self.token.broken_disk = ""
        self.decider = self.desk.start()

    @invariant()
    def what_was_answered_is_answered_again(self) -> None:
        """By a signer of a later life, whatever happened in between."""
        if not getattr(self, "answers", None) or self.token.failing or self.token.broken_disk:
            return
        self.decider = self.desk.start()
        for data in self.intents:
            answer = self.answers.get(canonical.digest(data))
            if answer is not None:
                nonce = next(n for n, owner in self.owners.items() if owner == canonical.digest(data))
                assert self.decider.sign(Sign(intent=data, approvals=(), binding=bind_evm(nonce))) == answer

    def arm(self, crash: int) -> None:
        self.token.calls.clear()
        self.token.crash_at = crash

    def revive(self) -> None:
        """Start again after a death, and after a fault that only a new start can judge."""
        if self.token.crash_at and len(self.token.calls) >= self.token.crash_at:
            self.token.failing = self.token.broken_disk = ""
            self.decider = self.desk.start()
        self.token.crash_at = 0

    def remember(self, request: Sign, answer: Signed) -> None:
        digest = canonical.digest(request.intent)
        assert digest not in self.vetoed
        assert self.answers.setdefault(digest, answer) == answer
        assert self.owners.setdefault(request.binding.nonce, digest) == digest  # type: ignore[union-attr]
        amounts = {canonical.digest(data): number + 1 for number, data in enumerate(self.intents)}
        assert self.token.now - self.began < WINDOW_S
        assert sum(amounts[one] for one in self.answers) <= LIMIT

    def look(self, call: str) -> None:
        """When the HSM signs, all that was bound is in the file and anchored; the anchor is never ahead of the file."""
        written = (self.desk.directory / "journal.log").read_bytes()
        lines = written.count(b"\n")
        anchored = max(
            int(self.token.texts[place].split()[1]) for place in PLACES if place in self.token.texts
        )
        assert anchored in ((lines,) if call == "sign" else (lines, lines - 1))
        if call == "sign" and self.desk.record is not None:
            assert written.count(b'"type":"Bound"') == len(self.desk.record.state.bound)


SignerMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestSigner = SignerMachine.TestCase
