"""Journal and anchor: what was cut, edited, rolled back or forked is noticed, and the signer does not start."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from signer.facts import KeyReserved
from signer.record import Record
from signer.refusal import EvidenceFault, StartupFault
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
        return self.directory / "journal.jsonl"

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
            record.append(reserved(f"{record.count}-{number}"))
        self.close()


def reserved(name: str) -> KeyReserved:
    return KeyReserved(
        request_id=name, key_id=name, org="o", vault="v", curve="ed25519", label="l", rule="r", state="active",
        intent=b"", approvals=(),
    )  # fmt: skip


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
    signer.file.write_bytes(whole + b'{"at":18000')
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


def test_a_rewritten_line_without_the_hsm_key_is_noticed(signer: Signer) -> None:
    """A chain that was recomputed by somebody else fails at the MAC."""
    signer.write(1)
    lines = signer.file.read_bytes().splitlines(keepends=True)
    value = json.loads(lines[1])
    value["mac"] = bytes(32).hex()
    signer.file.write_bytes(
        lines[0] + json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    )
    with pytest.raises(EvidenceFault, match="vouches"):
        signer.open()


def test_one_entry_ahead_of_the_anchor_is_a_crash_and_two_are_not(signer: Signer) -> None:
    signer.write(1)
    behind = list(signer.token.anchors)
    signer.write(1)
    ahead = list(signer.token.anchors)
    signer.token.anchors = list(behind)
    assert signer.open().count == 3
    signer.close()
    assert signer.token.anchors == ahead
    signer.write(1)
    signer.token.anchors = list(behind)
    with pytest.raises(EvidenceFault, match="ahead"):
        signer.open()


def test_a_fork_of_the_journal_is_refused(signer: Signer, tmp_path_factory: pytest.TempPathFactory) -> None:
    signer.write(1)
    copy = Signer(tmp_path_factory.mktemp("fork"))
    copy.file.write_bytes(signer.file.read_bytes())
    copy.token = FakeToken(anchors=list(signer.token.anchors))
    signer.write(1)
    copy.token.now += 1
    copy.write(1)
    copy.token.anchors = list(signer.token.anchors)
    with pytest.raises(EvidenceFault, match="go through"):
        copy.open()


def test_the_newer_of_two_anchors_counts(signer: Signer) -> None:
    signer.write(1)
    old = list(signer.token.anchors)
    signer.write(1)
    signer.token.anchors = old + signer.token.anchors
    assert signer.open().count == 3


def test_unreadable_or_contradicting_anchors_are_refused(signer: Signer) -> None:
    signer.write(1)
    (anchor,) = signer.token.anchors
    for anchors in ([b"junk"], [anchor[:-1]], [anchor, anchor[:-1] + bytes([anchor[-1] ^ 1])]):
        signer.token.anchors = anchors
        with pytest.raises(EvidenceFault):
            signer.open()


def test_another_policy_than_the_adopted_one_is_refused(signer: Signer) -> None:
    signer.write(1)
    signer.policy = policy_bytes(make_policy(version=2))
    with pytest.raises(EvidenceFault, match="policy"):
        signer.open()


def test_a_bootstrap_that_died_half_way_is_finished(signer: Signer) -> None:
    signer.open()
    signer.close()
    signer.token.anchors = []
    assert signer.open().count == 1
    assert len(signer.token.anchors) == 1


def test_two_processes_cannot_hold_one_journal(signer: Signer) -> None:
    signer.open()
    with pytest.raises(StartupFault, match="another signer"):
        Signer(signer.directory).open()


def test_a_missing_directory_is_named(signer: Signer) -> None:
    signer.directory = signer.directory / "missing"
    with pytest.raises(StartupFault, match="missing"):
        signer.open()
