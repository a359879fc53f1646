"""The signer's memory: journal, anchor, clock and state kept in step. Every fact goes through `append`, every answer
through `settle`.

Facts are decided one after another and count at once, but they become durable in groups: whoever settles first writes
all facts that wait by then as one entry (one write, one fsync, one move of the anchor), while the next group gathers.
So no entry is begun before the one before it is anchored, and a journal is at most one entry ahead of its anchor.

At a start the anchor's head vouches for every byte before it, as SHA-256 does not let anybody find another past with the
same head and the token does not let anybody but us change the anchor. A MAC is therefore asked of the HSM only for an
entry beyond the anchor: a crash between disk and token, or forged by somebody who has the disk but not the HSM.
"""

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from signer.anchor import Anchor, AnchorStore, check_owner, claim, move_anchor, stands
from signer.facts import Fact, PolicyAdopted, dump_fact, load_fact
from signer.journal import Entry, Journal, Mac
from signer.policy.document import Policy, parse_policy
from signer.protocol.wire import MalformedMessage
from signer.refusal import EvidenceFault, HsmFault, Refusal, StartupFault
from signer.state import State

Clock = Callable[[], int]
"""Unix seconds."""


class Group:
    """Facts that become durable together, or do not."""

    def __init__(self) -> None:
        self.facts: list[bytes] = []
        self.policy_hash = b""
        """Of the policy in force after these facts."""
        self.leader = threading.Lock()
        """Held for ever by the one thread that writes the group."""
        self.settled = threading.Event()
        self.failure: BaseException | None = None
        """Why the group is not durable."""


class Record:
    """What this signer knows and has promised.

    `append` and all that reads the state need `lock`, which `deciding` takes; `settle` must be called without it.
    """

    def __init__(self, journal: Journal, store: AnchorStore, clock: Clock) -> None:
        self._journal = journal
        self._store = store
        self._clock = clock
        self._owner = secrets.token_hex(16)
        self.lock = threading.Lock()
        """Around every decision: they are made one after another."""
        self._seen_at = 0
        self._deciding = False
        self._moment: int | None = None
        """The one time of the decision under way, once it was asked for: so an audit can decide the same again."""
        self._fault = ""
        self._held = False
        """Whether the open group begins with facts that the HSM kept from being written."""
        self._anchored: Anchor | None = None
        self._guard = threading.Lock()
        """Around the open group: a fact joins it, or its leader closes it."""
        self._writing = threading.Lock()
        """Around journal and anchor: one group is written at a time."""
        self._open = Group()
        self.newest: Group | None = None
        """The group of the newest fact; what has to be settled before an answer leaves."""
        self._policy: Policy | None = None
        self.state = State()

    @classmethod
    def open(
        cls, *, directory: Path, mac: Mac, store: AnchorStore, policy: bytes | None, clock: Clock
    ) -> "Record":
        """Open the journal and hold it against the anchor. `policy` is the document in the policy file, None when there is none.

        The document is adopted at the very first start only; afterwards the policy in force is the journal's, and a file may
        lie there only if this journal knows it. From here on no other process signs with this token. Raises EvidenceFault when
        journal, anchor and file do not agree, StartupFault, also when the first start has no valid policy, HsmFault, or Refusal
        when the first entry cannot be written.
        """
        journal = Journal.open(directory, mac)
        record = cls(journal, store, clock)
        opened = False
        try:
            record._recall(claim(store, record._owner))
            if record.count == 0:
                record._adopt_first(policy)
            record._check_file(policy)
            opened = True
        finally:
            if not opened:
                journal.close()
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
        """Return the time, which never runs backwards and stands still within a decision; raises Refusal("clock_backwards")."""
        if self._moment is not None:
            return self._moment
        at = self._clock()
        if at < self._seen_at:
            raise Refusal("clock_backwards", "the machine's clock is behind a time already seen")
        self._seen_at = at
        if self._deciding:
            self._moment = at
        return at

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """Decide alone, and let no answer or refusal leave before all that it rests on is durable."""
        group = None
        try:
            with self.lock:
                self.check_sound()
                self._deciding = True
                try:
                    yield
                finally:
                    self._deciding, self._moment = False, None
                    group = self.newest
        finally:
            self.settle(group)

    def check_sound(self) -> None:
        """Check before a decision that the journal is as this process left it and takes facts.

        Raises Refusal("journal_fault" or "anchor_mismatch"), which is final for the process, or HsmFault while facts that
        were decided before still cannot be written. The anchor is checked whenever a group is written.
        """
        self._refuse_after_fault()
        if self._held:
            self.settle(self.newest)
        if self._writing.acquire(blocking=False):
            # Whoever is writing just now has checked, and must not be waited for.
            try:
                self._journal.check_untouched()
            except EvidenceFault as error:
                raise self._found("journal_fault", "the journal was changed by another hand") from error
            finally:
                self._writing.release()

    def check_anchor(self) -> Anchor:
        """Return the anchor in the token: checked to be where this process left it, and the token to be nobody else's.

        Raises Refusal("anchor_mismatch"), which is final for the process, or HsmFault.
        """
        with self._writing:
            self._check_anchor()
            if self._anchored is None:
                raise self._found("anchor_mismatch", "there is no anchor in the token")
            return self._anchored

    def append(self, fact: Fact) -> None:
        """Let a fact count from now on. Nothing may leave on its strength before it is settled."""
        self._refuse_after_fault()
        at, body = self.now(), dump_fact(fact)
        with self._guard:
            self.state.learn(at, fact)
            self._open.facts.append(b"%d %s" % (at, body))
            self._open.policy_hash = self.state.policies[-1].hash
            self.newest = self._open

    def settle(self, group: Group | None) -> None:
        """Return when the group and all before it are on disk and anchored. None, for no fact yet, is settled.

        Raises HsmFault when the HSM failed before anything was written: the facts still count, and are written before the
        next decision. Raises Refusal when they may stand on disk: this process then appends nothing more, since only a new
        start knows what is there.
        """
        if group is None:
            return
        if group.leader.acquire(blocking=False):
            with self._writing:
                self._write(group)
        group.settled.wait()
        if group.failure is not None:
            raise group.failure

    def close(self) -> None:
        """Release the journal."""
        self._journal.close()

    def _write(self, group: Group) -> None:
        """Make the open group durable, or say in it why it is not. For its leader."""
        try:
            with self._guard:
                self._open = Group()
            self._commit(group, self._prepare(group))
        except (HsmFault, Refusal) as failure:
            group.failure = failure
        except BaseException:
            group.failure = Refusal("journal_fault", "the journal cannot be written")
            raise
        finally:
            group.settled.set()

    def _prepare(self, group: Group) -> bytes:
        """Return the line to write. Nothing is on disk yet, so facts that the HSM keeps from it wait in the next group."""
        try:
            self._refuse_after_fault()
            self._check_anchor()
            line = self._journal.compose(group.facts)
        except HsmFault:
            with self._guard:
                self._open.facts[:0] = group.facts
                self._open.policy_hash = self.state.policies[-1].hash
                self.newest = self._open
                self._held = True
            raise
        self._held = False
        return line

    def _commit(self, group: Group, line: bytes) -> None:
        anchored = False
        try:
            self._journal.write(line)
            anchor = Anchor(count=self.count, head=self._journal.head, policy_hash=group.policy_hash)
            move_anchor(self._store, anchor)
            self._anchored = anchor
            self._check_owner()
            anchored = True
        except (OSError, EvidenceFault) as error:
            raise Refusal("journal_fault", "the journal cannot be written") from error
        finally:
            if not anchored:
                self._fault = self._fault or "journal_fault"

    def _check_anchor(self) -> None:
        self._refuse_after_fault()
        try:
            same = stands(self._store, self._anchored)
        except EvidenceFault:
            same = False
        if not same:
            raise self._found("anchor_mismatch", "the anchor was changed by another hand")
        self._check_owner()

    def _check_owner(self) -> None:
        try:
            check_owner(self._store, self._owner)
        except EvidenceFault as error:
            raise self._found("anchor_mismatch", "another signer has taken the token") from error

    def _found(self, fault: str, text: str) -> Refusal:
        self._fault = fault
        return Refusal(fault, text)

    def _refuse_after_fault(self) -> None:
        if self._fault:
            raise Refusal(
                self._fault, "the signer's record is not sound; it signs nothing until it is looked after"
            )

    def _recall(self, anchor: Anchor | None) -> None:
        """Learn what the journal holds; raises EvidenceFault unless it goes through the anchor and at most one entry past it.

        One entry may be ahead: a crash between the disk and the token. Nothing was signed or answered on its strength.
        """
        vouched = 0 if anchor is None else anchor.count
        for entry in self._journal.replay(vouched):
            if entry.n > vouched + 1:
                raise EvidenceFault("the journal runs ahead of the anchor in the token")
            self._learn(entry)
            if anchor is not None and entry.n == vouched and not self._stands_at(anchor):
                raise EvidenceFault("the journal does not go through the anchor in the token")
        if self.count < vouched:
            raise EvidenceFault("the journal is shorter than the anchor in the token says")
        self._anchored = anchor
        if self.count == 0:
            return
        if self.count > vouched:
            policy_hash = self.state.policies[-1].hash
            self._anchored = Anchor(count=self.count, head=self._journal.head, policy_hash=policy_hash)
            move_anchor(self._store, self._anchored)
            check_owner(self._store, self._owner)

    def _stands_at(self, anchor: Anchor) -> bool:
        policy_hash = self.state.policies[-1].hash
        return anchor == Anchor(count=self.count, head=self._journal.head, policy_hash=policy_hash)

    def _learn(self, entry: Entry) -> None:
        for at, body in entry.facts:
            try:
                fact = load_fact(body)
            except MalformedMessage as error:
                raise EvidenceFault(f"journal entry {entry.n} holds no known fact") from error
            self._seen_at = max(self._seen_at, at)
            self.state.learn(at, fact)
        if not self.state.policies:
            raise EvidenceFault("the journal does not begin with a policy")

    def _adopt_first(self, document: bytes | None) -> None:
        if document is None:
            raise StartupFault("the first start needs the policy file: there is no policy in force yet")
        policy = parse_policy(document)
        self.append(PolicyAdopted(version=policy.version, hash=policy.hash, document=document, change=b""))
        self.settle(self.newest)

    def _check_file(self, document: bytes | None) -> None:
        known = {adopted.document for adopted in self.state.policies}
        if document is not None and document not in known:
            raise EvidenceFault(
                "the policy file is none that was ever in force; a policy is changed by its quorum, not by its file"
            )
