"""Journal and anchor: what was cut, edited, rolled back or forked is noticed, and the signer does not start."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from signer.anchor import OWNER_PLACE, PLACES
from signer.facts import KeyReserved
from signer.record import Record
from signer.refusal import EvidenceFault, Refusal, StartupFault
from tests.fakes.signer_hsm import FakeToken
from tests.fakes.signer_people import make_policy, policy_bytes


class Signer:
    """A record that can be closed, disturbed and opened again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.token = FakeToken()
        self.policy: bytes | None = policy_bytes(make_policy())
        self.record: Record | None = None

    @property
    def file(self) -> Path:
        return self.directory / "journal.log"

    def open(self) -> Record:
        self.close()
        self.record = Record.open(
            directory=self.directory,
            mac=self.token.mac,
            store=self.token,
            policy=self.policy,
            clock=self.token.clock,
        )
        return self.record

    def close(self) -> None:
        if self.record is not None:
            self.record.close()
            self.record = None

    def write(self, count: int) -> None:
        """Append some facts and close."""
        record = self.open()
        for number in range(count):
            add(record, f"{record.count}-{number}")
        self.close()


def reserved(name: str) -> KeyReserved:
    return KeyReserved(
        request_id=name, key_id=name, org="o", vault="v", curve="ed25519", label="l", rule="r", state="active",
        intent=b"", approvals=(),
    )  # fmt: skip


def add(record: Record, *names: str) -> None:
    """Append facts that become durable together."""
    for name in names:
        record.append(reserved(name))
    record.settle(record.newest)


@pytest.fixture
def signer(tmp_path: Path) -> Iterator[Signer]:
    made = Signer(tmp_path)
    yield made
    made.close()


def test_facts_survive_a_restart(signer: Signer) -> None:
    signer.write(3)
    state = signer.open().state
    assert list(state.key_requests) == ["1-0", "2-1", "3-2"]
    assert state.policies[0].document == signer.policy


@pytest.mark.parametrize("cut", [1, 2, 3, 4])
def test_a_journal_cut_at_a_line_is_refused(signer: Signer, cut: int) -> None:
    signer.write(3)
    lines = signer.file.read_bytes().splitlines(keepends=True)
    signer.file.write_bytes(b"".join(lines[:-cut]))
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.open()


def test_a_deleted_journal_is_refused(signer: Signer) -> None:
    signer.write(1)
    signer.file.unlink()
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.open()


def test_a_cut_inside_an_anchored_line_is_refused(signer: Signer) -> None:
    signer.write(2)
    signer.file.write_bytes(signer.file.read_bytes()[:-1])
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.open()


def test_a_torn_last_line_that_was_never_anchored_is_dropped(signer: Signer) -> None:
    signer.write(2)
    whole = signer.file.read_bytes()
    signer.file.write_bytes(whole + b"4\t0123")
    assert signer.open().count == 3
    signer.close()
    assert signer.file.read_bytes() == whole


def test_every_flipped_byte_is_noticed(signer: Signer) -> None:
    signer.write(1)
    whole = signer.file.read_bytes()
    for position in range(len(whole) - 1):
        spoiled = bytearray(whole)
        spoiled[position] ^= 1
        signer.file.write_bytes(bytes(spoiled))
        with pytest.raises(EvidenceFault):
            signer.open()
    signer.file.write_bytes(whole)
    assert signer.open().count == 2


@pytest.mark.parametrize("change", ["swap", "repeat", "remove", "insert"])
def test_lines_out_of_place_are_noticed(signer: Signer, change: str) -> None:
    signer.write(3)
    one, two, three, four = signer.file.read_bytes().splitlines(keepends=True)
    changed = {
        "swap": [one, three, two, four],
        "repeat": [one, two, two, three, four],
        "remove": [one, three, four],
        "insert": [one, two, three, b"{}\n", four],
    }
    signer.file.write_bytes(b"".join(changed[change]))
    with pytest.raises(EvidenceFault):
        signer.open()


def test_an_entry_past_the_anchor_needs_the_hsm_key(signer: Signer) -> None:
    """Whoever has the disk can put an entry where a crash would leave one, but not with its MAC."""
    signer.write(1)
    behind = dict(signer.token.texts)
    signer.write(1)
    signer.token.texts = behind
    whole = signer.file.read_bytes()
    lines = whole.splitlines(keepends=True)
    forged = [
        lines[2].replace(b'"label":"l"', b'"label":"m"'),
        lines[2].replace(b"3\t", b"3\t" + b"0" * 64 + b"\t").replace(lines[2].split(b"\t")[1] + b"\t", b""),
    ]
    for line in forged:
        signer.file.write_bytes(lines[0] + lines[1] + line)
        with pytest.raises(EvidenceFault, match="vouches"):
            signer.open()
    signer.file.write_bytes(whole)
    assert signer.open().count == 3


def test_facts_settled_together_are_one_entry_and_are_lost_together(signer: Signer) -> None:
    record = signer.open()
    behind = dict(signer.token.texts)
    add(record, "a", "b", "c")
    assert record.count == 2
    signer.close()
    whole = signer.file.read_bytes()
    for cut in range(whole.index(b"\n") + 1, len(whole)):
        signer.token.texts = dict(behind)
        signer.file.write_bytes(whole[:cut])
        assert list(signer.open().state.key_requests) == []
        signer.close()
    signer.token.texts = dict(behind)
    signer.file.write_bytes(whole)
    assert list(signer.open().state.key_requests) == ["a", "b", "c"]


def test_an_entry_that_was_never_anchored_is_anchored_at_the_next_start(signer: Signer) -> None:
    signer.write(1)
    behind = dict(signer.token.texts)
    signer.write(1)
    signer.token.texts = behind
    assert signer.open().count == 3
    signer.close()
    signer.file.write_bytes(b"".join(signer.file.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.open()


def test_one_entry_ahead_of_the_anchor_is_a_crash_and_two_are_not(signer: Signer) -> None:
    signer.write(1)
    behind = dict(signer.token.texts)
    signer.write(2)
    signer.token.texts = behind
    with pytest.raises(EvidenceFault, match="ahead"):
        signer.open()


def test_a_fork_of_the_journal_is_refused(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> None:
    signer.write(1)
    copy = Signer(tmp_path_factory.mktemp("fork"))
    copy.file.write_bytes(signer.file.read_bytes())
    copy.token = FakeToken(texts=dict(signer.token.texts))
    signer.write(1)
    copy.token.now += 1
    copy.write(1)
    copy.token.texts = dict(signer.token.texts)
    with pytest.raises(EvidenceFault, match="go through"):
        copy.open()


@pytest.mark.parametrize("torn", PLACES)
def test_an_anchor_torn_by_a_crash_leaves_the_other(signer: Signer, torn: int) -> None:
    """The place that was being written is lost: the newer one when its entry is on disk, the older one never."""
    signer.write(2)
    del signer.token.texts[torn]
    assert signer.open().count == 3
    add(signer.open(), "next")
    signer.close()
    assert len(signer.token.texts) == len(PLACES) + 1
    assert signer.open().count == 4


def test_an_older_anchor_beside_the_newer_one_allows_no_cut(signer: Signer) -> None:
    signer.write(2)
    signer.file.write_bytes(b"".join(signer.file.read_bytes().splitlines(keepends=True)[:2]))
    with pytest.raises(EvidenceFault, match="shorter"):
        signer.open()


def test_unreadable_or_contradicting_anchors_are_refused(signer: Signer) -> None:
    signer.write(1)
    good = dict(signer.token.texts)
    other = good[0][:-1] + ("0" if good[0][-1] != "0" else "1")
    for texts in ({0: "junk"}, {0: good[0] + "0"}, {0: good[0], 1: other}, {0: other}):
        signer.token.texts = {**texts}
        with pytest.raises(EvidenceFault):
            signer.open()


def test_of_two_signers_on_one_token_the_older_one_stops(
    signer: Signer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each with its own copy of the disk, so that no lock of files stands between them."""
    signer.write(1)
    copy = Signer(tmp_path_factory.mktemp("copy"))
    copy.file.write_bytes(signer.file.read_bytes())
    copy.token = signer.token
    first = signer.open()
    add(first, "first")
    with pytest.raises(EvidenceFault, match="shorter"):
        copy.open()
    with pytest.raises(Refusal, match="anchor_mismatch"):
        add(first, "stopped")
    copy.file.write_bytes(signer.file.read_bytes())
    add(copy.open(), "second")
    with pytest.raises(Refusal, match="anchor_mismatch"):
        first.check_sound()
    copy.close()


@pytest.mark.parametrize("step", range(1, 8))
def test_two_signers_never_both_get_a_fact_through(
    signer: Signer, tmp_path_factory: pytest.TempPathFactory, step: int
) -> None:
    """A second signer starts, on a copy of the disk, between any two calls that the first one makes for one entry."""
    signer.write(1)
    copy = Signer(tmp_path_factory.mktemp("copy"))
    copy.file.write_bytes(signer.file.read_bytes())
    copy.token = signer.token
    first = signer.open()
    went_through, calls = [], []

    def intrude(call: str) -> None:
        calls.append(call)
        if len(calls) < step:
            return
        signer.token.between = None
        try:
            add(copy.open(), "second")
            went_through.append("second")
        except (EvidenceFault, Refusal):
            copy.close()

    signer.token.between = intrude
    try:
        add(first, "first")
        went_through.append("first")
    except Refusal:
        calls.append("refused")
    assert calls[step:] == ["refused"] if step < 7 else len(calls) == 6
    assert went_through == {6: [], 7: ["first"]}.get(step, ["second"])
    copy.close()


def test_another_policy_than_the_adopted_one_is_refused(signer: Signer) -> None:
    signer.write(1)
    signer.policy = policy_bytes(make_policy(version=2))
    with pytest.raises(EvidenceFault, match="policy"):
        signer.open()


def test_a_bootstrap_that_died_half_way_is_finished(signer: Signer) -> None:
    signer.open()
    signer.close()
    signer.token.texts = {}
    assert signer.open().count == 1
    assert signer.token.texts.keys() == {1, OWNER_PLACE}


def test_two_processes_cannot_hold_one_journal(signer: Signer) -> None:
    signer.open()
    with pytest.raises(StartupFault, match="another signer"):
        Signer(signer.directory).open()


def test_a_missing_directory_is_named(signer: Signer) -> None:
    signer.directory = signer.directory / "missing"
    with pytest.raises(StartupFault, match="missing"):
        signer.open()
