"""A signer without keys that keeps the rules its callers lean on, and passes `tests/contract/test_signer_port.py`.

Quorum by people, one binding per intent, one intent per slot, the same bytes again for the same request. Its "transactions"
are JSON that the fake chain reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict

from custody.kernel.clock import Clock
from custody.policy.evaluate import evaluate
from custody.policy.model import ApprovalPolicy, Decision, Standing, Verdict, Word
from custody.signing import batches, intents
from custody.signing.decisions import verify_decision
from custody.signing.errors import (
    InvalidDecision,
    SignerRefused,
    SignerUnreachable,
    SigningUnknown,
    refusal,
)
from custody.signing.model import EvmSlot, SignedTransaction, SignerHealth, Slot, StellarSlot
from tests.fakes.faults import Faults


class FakeSigner:
    """Decides by `policy` at `clock`'s time; keeps its journal in memory."""

    def __init__(self, policy: ApprovalPolicy, clock: Clock, faults: Faults) -> None:
        self.policy = policy
        self.clock = clock
        self.faults = faults
        self.reachable = True
        self.loses_answers = 0
        self.refuses_with = ""
        self.journal: dict[bytes, tuple[Slot, SignedTransaction]] = {}
        self.slots: dict[tuple[str, int], tuple[bytes, int]] = {}
        self.vetoed: set[bytes] = set()
        self.batches: dict[bytes, Verdict] = {}
        self.voided: set[bytes] = set()
        self.complete_at: dict[bytes, int] = {}
        self.bound: dict[bytes, bytes] = {}
        self.alternatives: dict[bytes, list[tuple[str, Slot]]] = {}

    async def health(self) -> SignerHealth:
        self._reach()
        return SignerHealth(
            policy_version=self.policy.version,
            journal_count=len(self.journal),
            journal_head="00" * 32,
            policy_hash="00" * 32,
            keys=len(self.slots),
        )

    async def get_policy(self) -> ApprovalPolicy:
        self._reach()
        return self.policy

    async def veto(self, intent: bytes, decisions: Sequence[Decision]) -> None:
        self._reach()
        digest = intents.digest(intent)
        if digest in self.journal:
            raise SignerRefused(reason="already_signed", text="")
        self._verify(intent, decisions)
        if not any(each.word is Word.REJECT for each in decisions):
            raise SignerRefused(reason="no_veto", text="")
        self.vetoed.add(digest)

    async def void(self, intent: bytes) -> None:
        self.faults.reach("before void")
        self._reach()
        if intents.digest(intent) in self.journal:
            raise SignerRefused(reason="already_signed", text="")
        self.voided.add(intents.digest(intent))
        self.faults.reach("after void")

    async def approve_batch(
        self, document: bytes, lines: Sequence[bytes], decisions: Sequence[Decision]
    ) -> None:
        self._reach()
        for each in decisions:
            batches.verify_decision(document, self.policy, each)
        named = {intents.digest(line) for line in lines}
        if any(each.word is Word.REJECT for each in decisions):
            self.vetoed |= named - self.journal.keys()
            raise SignerRefused(reason="vetoed", text="")
        self.batches.update(dict.fromkeys(named, batches.judge(self.policy, lines, decisions)))

    async def sign(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        self.faults.reach("before sign")
        self._reach()
        if self.refuses_with:
            raise refusal(self.refuses_with)
        signed = self._journaled(intent, slot) or self._decide(intent, decisions, slot)
        self.faults.reach("after sign")
        if self.loses_answers:
            self.loses_answers -= 1
            raise SigningUnknown(cause="lost")
        return signed

    def _reach(self) -> None:
        if not self.reachable:
            raise SignerUnreachable(cause="down")

    def _journaled(self, intent: bytes, slot: Slot) -> SignedTransaction | None:
        found = self.journal.get(intents.digest(intent))
        if found is None:
            return None
        if found[0] != slot:
            raise SignerRefused(reason="already_bound", text="")
        return found[1]

    def _decide(self, intent: bytes, decisions: Sequence[Decision], slot: Slot) -> SignedTransaction:
        digest, fields, now = intents.digest(intent), intents.show(intent), int(self.clock.now().timestamp())
        judged = self._approved_already(fields) or intent
        self._verify(judged, decisions)
        verdict = evaluate(self.policy, intents.facts_of(judged), decisions)
        if not decisions:
            verdict = self.batches.get(intents.digest(judged), verdict)
        named = bytes.fromhex(fields.get("replaces") or fields.get("cancels") or "")
        if named:
            self._join(named, fields, slot)
        used = None if named else self.slots.get(_slot_key(fields, slot))
        refusals: list[tuple[Callable[[], bool], str]] = [
            (lambda: now >= int(fields["expires_at"]), "expired"),
            (lambda: now < int(fields["not_before"]), "not_yet"),
            (lambda: digest in self.vetoed or verdict.standing is Standing.REJECTED, "vetoed"),
            (lambda: digest in self.voided, "voided"),
            (lambda: verdict.standing is Standing.DENIED, verdict.reason),
            (lambda: verdict.standing is Standing.PENDING, "quorum_missing"),
            (lambda: self._cools_down(digest, verdict.cool_down_s, now), "cooling_down"),
            (lambda: not _fits(fields, slot, now), "bad_binding"),
            (lambda: used is not None and used[0] != digest and used[1] >= now, "slot_used"),
        ]
        for applies, code in refusals:
            if applies():
                raise refusal(code)
        ends = slot.max_time if isinstance(slot, StellarSlot) else 2**62
        tx = json.dumps({"fields": fields, "slot": asdict(slot)}, sort_keys=True).encode()
        shown = hashlib.sha256(tx).hexdigest()
        signed = SignedTransaction(tx=tx, tx_hash=shown if isinstance(slot, StellarSlot) else f"0x{shown}")
        self.journal[digest] = (slot, signed)
        self.bound[digest] = intent
        if named:
            self.alternatives.setdefault(named, []).append((fields["kind"], slot))
        else:
            self.slots[_slot_key(fields, slot)] = (digest, ends)
        return signed

    def _approved_already(self, fields: dict[str, str]) -> bytes | None:
        """The first intent on the nonce, where what people approved then holds the replacement too."""
        if fields["kind"] != "evm_replace":
            return None
        first = self.bound.get(bytes.fromhex(fields["replaces"]))
        if first is None:
            raise SignerRefused(reason="unknown_intent", text="")
        held = intents.show(first)
        within = all(
            int(fields[name]) <= int(held[name]) for name in ("max_fee_per_gas", "max_priority_fee_per_gas")
        )
        return first if within else None

    def _join(self, named: bytes, fields: dict[str, str], slot: Slot) -> None:
        """An alternative stands on the nonce of the intent that it names, a tenth above all that stands there."""
        first = self.journal.get(named)
        if first is None:
            raise SignerRefused(reason="unknown_intent", text="")
        others = self.alternatives.get(named, [])
        if not isinstance(slot, EvmSlot) or not isinstance(first[0], EvmSlot) or slot.nonce != first[0].nonce:
            raise SignerRefused(reason="bad_binding", text="")
        if len(others) >= 7:
            raise SignerRefused(reason="too_many_alternatives", text="")
        if fields["kind"] == "evm_replace" and any(kind == "evm_cancel" for kind, _ in others):
            raise SignerRefused(reason="cancelled", text="")
        for each in (first[0], *(place for _, place in others)):
            assert isinstance(each, EvmSlot)
            pairs = (
                (slot.max_fee_per_gas, each.max_fee_per_gas),
                (slot.max_priority_fee_per_gas, each.max_priority_fee_per_gas),
            )
            if any(new * 10 < old * 11 or new <= old for new, old in pairs):
                raise SignerRefused(reason="underpriced", text="")

    def _cools_down(self, digest: bytes, cool_down_s: int, now: int) -> bool:
        return now < self.complete_at.setdefault(digest, now) + cool_down_s

    def _verify(self, intent: bytes, decisions: Sequence[Decision]) -> None:
        for each in decisions:
            try:
                verify_decision(intent, self.policy, each)
            except InvalidDecision as error:
                raise SignerRefused(reason=str(error.values["reason"]), text="") from error


def _slot_key(fields: dict[str, str], slot: Slot) -> tuple[str, int]:
    return (fields["key_id"], slot.sequence if isinstance(slot, StellarSlot) else slot.nonce)


def _fits(fields: dict[str, str], slot: Slot, now: int) -> bool:
    if isinstance(slot, StellarSlot):
        return now < slot.max_time <= int(fields["expires_at"]) and 100 <= slot.fee <= int(fields["max_fee"])
    return slot.max_fee_per_gas <= int(fields["max_fee_per_gas"]) and slot.max_priority_fee_per_gas <= int(
        fields["max_priority_fee_per_gas"]
    )
