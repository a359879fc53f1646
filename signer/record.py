"""The signer's memory: journal, anchor, clock and state kept in step. Every fact goes through `append`."""

from collections.abc import Callable
from pathlib import Path

from signer.anchor import Anchor, AnchorStore, read_anchor, write_anchor
from signer.facts import Fact, PolicyAdopted, State, dump_fact, load_fact
from signer.journal import GENESIS, Entry, Journal, Mac
from signer.policy.document import Policy, parse_policy
from signer.protocol.wire import MalformedMessage
from signer.refusal import EvidenceFault, HsmFault, Refusal, StartupFault

Clock = Callable[[], int]
"""Unix seconds."""


class Record:
    """What this signer knows and has promised. Not safe for concurrent use; the caller holds one lock around
    it.
    """

    def __init__(self, journal: Journal, store: AnchorStore, clock: Clock) -> None:
        self._journal = journal
        self._store = store
        self._clock = clock
        self._seen_at = 0
        self._fault = ""
        self._policy: Policy | None = None
        self.state = State()

    @classmethod
    def open(
        cls, *, directory: Path, mac: Mac, store: AnchorStore, policy: bytes | None, clock: Clock
    ) -> "Record":
        """Open the journal and hold it against the anchor. `policy` is the document in the policy file, None when there is none.

        The document is adopted at the very first start only; afterwards the policy in force is the journal's, and a file may
        lie there only if this journal knows it. Raises EvidenceFault when journal, anchor and file do not agree, StartupFault
        when the first start has no valid policy.
        """
        journal, entries = Journal.open(directory, mac)
        record = cls(journal, store, clock)
        try:
            anchor = read_anchor(store)
            _check_against_anchor(entries, anchor)
            record._recall(entries, anchor)
            if not entries:
                record._adopt_first(policy)
            elif anchor != record._anchor():
                write_anchor(store, record._anchor())
            record._check_file(policy)
        except (EvidenceFault, StartupFault):
            journal.close()
            raise
        return record

    @property
    def policy(self) -> Policy:
        """The policy in force: the last that the journal adopted."""
        adopted = self.state.policies[-1]
        if self._policy is None or self._policy.hash != adopted.hash:
            self._policy = parse_policy(adopted.document)
        return self._policy

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
        """Make a fact durable: journal and disk first, then the state, then the anchor, which holds the policy in force.

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
        self.state.learn(entry.at, fact)
        write_anchor(self._store, self._anchor())
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
        return Anchor(
            count=self._journal.count, head=self._journal.head, policy_hash=self.state.policies[-1].hash
        )

    def _learn(self, entry: Entry) -> None:
        try:
            fact = load_fact(entry.body)
        except MalformedMessage as error:
            raise EvidenceFault(f"journal entry {entry.n} holds no known fact") from error
        self._seen_at = max(self._seen_at, entry.at)
        self.state.learn(entry.at, fact)

    def _recall(self, entries: list[Entry], anchor: Anchor | None) -> None:
        """Learn all entries; the policy in force at the anchored one has to be the anchor's."""
        for entry in entries:
            self._learn(entry)
            if not self.state.policies:
                raise EvidenceFault("the journal does not begin with a policy")
            at_anchor = anchor is not None and entry.n == anchor.count
            if at_anchor and anchor is not None and self.state.policies[-1].hash != anchor.policy_hash:
                raise EvidenceFault("the policy of the journal is not the one in the anchor")

    def _adopt_first(self, document: bytes | None) -> None:
        if document is None:
            raise StartupFault("the first start needs the policy file: there is no policy in force yet")
        policy = parse_policy(document)
        self.append(PolicyAdopted(version=policy.version, hash=policy.hash, document=document, change=b""))

    def _check_file(self, document: bytes | None) -> None:
        known = {adopted.document for adopted in self.state.policies}
        if document is not None and document not in known:
            raise EvidenceFault(
                "the policy file is none that was ever in force; a policy is changed by its quorum, not by its file"
            )


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
