"""The signer's memory: journal, anchor, clock and state kept in step. Every fact goes through `append`."""

from collections.abc import Callable
from pathlib import Path

from signer.anchor import Anchor, AnchorStore, read_anchor, write_anchor
from signer.facts import Fact, PolicyAdopted, State, dump_fact, load_fact
from signer.journal import GENESIS, Entry, Journal, Mac
from signer.policy.document import Policy
from signer.protocol.wire import MalformedMessage
from signer.refusal import EvidenceFault, HsmFault, Refusal

Clock = Callable[[], int]
"""Unix seconds."""


class Record:
    """What this signer knows and has promised. Not safe for concurrent use; the caller holds one lock around
    it.
    """

    def __init__(self, journal: Journal, store: AnchorStore, policy: Policy, clock: Clock) -> None:
        self._journal = journal
        self._store = store
        self._clock = clock
        self._seen_at = 0
        self._fault = ""
        self.policy = policy
        self.state = State()

    @classmethod
    def open(cls, *, directory: Path, mac: Mac, store: AnchorStore, policy: Policy, clock: Clock) -> "Record":
        """Open the journal, hold it against the anchor, and adopt the policy if this is the very first start.

        Raises EvidenceFault when journal, anchor and policy do not agree.
        """
        journal, entries = Journal.open(directory, mac)
        record = cls(journal, store, policy, clock)
        try:
            anchor = read_anchor(store)
            _check_against_anchor(entries, anchor)
            for entry in entries:
                record._learn(entry)
            record._check_policy(anchor)
            if not entries:
                record.append(PolicyAdopted(version=policy.version, hash=policy.hash))
            elif anchor != record._anchor():
                write_anchor(store, record._anchor())
        except EvidenceFault:
            journal.close()
            raise
        return record

    @property
    def count(self) -> int:
        """Entries in the journal."""
        return self._journal.count

    def now(self) -> int:
        """Return the time, which never runs backwards; raises Refusal("clock_backwards")."""
        at = self._clock()
        if at < self._seen_at:
            raise Refusal("clock_backwards", "the machine's clock is behind a time already seen")
        self._seen_at = at
        return at

    def check_sound(self) -> None:
        """Check that journal and anchor are as this process left them; a fault here is final for the process.

        Raises Refusal("journal_fault" or "anchor_mismatch").
        """
        self._refuse_after_fault()
        try:
            self._journal.check_untouched()
        except EvidenceFault as error:
            self._fault = "journal_fault"
            raise Refusal(self._fault, "the journal was changed by another hand") from error
        try:
            same = read_anchor(self._store) == self._anchor()
        except EvidenceFault:
            same = False
        if not same:
            self._fault = "anchor_mismatch"
            raise Refusal(self._fault, "the anchor was changed by another hand")

    def append(self, fact: Fact) -> None:
        """Make a fact durable: journal and disk first, then the anchor, then the state.

        When any of it fails, this process appends nothing more: what is on disk is then known only to a new start.
        """
        self._refuse_after_fault()
        at = self.now()
        self._fault = "journal_fault"
        try:
            entry = self._journal.append(at, dump_fact(fact))
        except HsmFault:
            # The entry's MAC comes before its first byte on disk, so nothing was written.
            self._fault = ""
            raise
        except (OSError, EvidenceFault) as error:
            raise Refusal("journal_fault", "the journal cannot be written") from error
        write_anchor(self._store, self._anchor())
        self.state.learn(entry.at, fact)
        self._fault = ""

    def close(self) -> None:
        """Release the journal."""
        self._journal.close()

    def _refuse_after_fault(self) -> None:
        if self._fault:
            raise Refusal(
                self._fault, "the signer's record is not sound; it signs nothing until it is looked after"
            )

    def _anchor(self) -> Anchor:
        return Anchor(count=self._journal.count, head=self._journal.head, policy_hash=self.policy.hash)

    def _learn(self, entry: Entry) -> None:
        try:
            fact = load_fact(entry.body)
        except MalformedMessage as error:
            raise EvidenceFault(f"journal entry {entry.n} holds no known fact") from error
        self._seen_at = max(self._seen_at, entry.at)
        self.state.learn(entry.at, fact)

    def _check_policy(self, anchor: Anchor | None) -> None:
        hashes = {adopted.hash for adopted in self.state.policies[-1:]}
        if anchor is not None:
            hashes.add(anchor.policy_hash)
        if hashes - {self.policy.hash}:
            raise EvidenceFault("the policy file is not the one that is in force")


def _check_against_anchor(entries: list[Entry], anchor: Anchor | None) -> None:
    """Raise EvidenceFault unless the journal goes through the anchor and at most one entry past it.

    One entry may be ahead: a crash between the disk and the token. Nothing was signed or answered on its
    strength.
    """
    anchored = 0 if anchor is None else anchor.count
    head = GENESIS if anchor is None else anchor.head
    if len(entries) < anchored:
        raise EvidenceFault("the journal is shorter than the anchor in the token says")
    at_anchor = entries[anchored - 1].hash if anchored else GENESIS
    if at_anchor != head:
        raise EvidenceFault("the journal does not go through the anchor in the token")
    if len(entries) > anchored + 1:
        raise EvidenceFault("the journal runs ahead of the anchor in the token")
