"""An audit of the signer's journal: what was decided stands, and no forgery does. Nothing here asks a token."""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cli.main import main
from signer.audit.entries import read_entries, write_export
from signer.audit.inspection import Report, inspect
from signer.decide import Decider
from signer.facts import (
    Bound,
    CheckpointSigned,
    Fact,
    IntentVetoed,
    KeyStateChanged,
    PolicyAccepted,
    PolicyAdopted,
    TransactionSigned,
    dump_fact,
    load_fact,
)
from signer.protocol import canonical, governance
from signer.protocol.messages import ChangeKey, CreateKey, SignCheckpoint, Veto
from signer.record import Record
from signer.refusal import EvidenceFault
from tests.fakes.policy_desk import ask_change
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import (
    approve,
    bind_evm,
    bind_stellar,
    make_key_rule,
    make_key_state,
    make_payment,
    make_policy,
    make_rule,
    make_transfer,
    policy_bytes,
)

Dated = tuple[int, Fact]
STELLAR = {"chain": "stellar:devnet", "amount_max": str(2**63 - 1), "fee_max": "100000"}


@pytest.fixture
def site(make_signer: Callable[..., Desk]) -> Desk:
    """A signer that has decided something of every sort."""
    rules = [
        make_rule("stellar", **STELLAR),
        make_rule("evm", cool_down_s=100),
        make_rule("states", chain="*", kind="key_state", asset="none"),
        make_key_rule("ed25519"),
        make_key_rule("secp256k1"),
    ]
    desk = make_signer(allow=rules)
    decider = desk.start()
    stellar, evm = make_key(decider, "ed25519"), make_key(decider)
    wrapped = decider.keyring.create_key(
        CreateKey(
            request_id="w", org="acme", vault="deposit", curve="secp256k1", label="w", storage="wrapped"
        )
    )
    first = make_payment(stellar, START)
    decider.sign(approved(first, bind_stellar(first, 1)))
    slow = approved(make_transfer(evm, START), bind_evm(0))
    assert code_of(decider, slow) == "cooling_down"
    rejected = canonical.encode(make_payment(stellar, START, amount=2))
    decider.veto(Veto(intent=rejected, approvals=approve(rejected, "carol", decision="reject")))
    desk.token.now = START + 100
    decider.sign(slow)
    checkpoints = make_key(decider, "ed25519", vault="checkpoints")
    decider.sign_checkpoint(SignCheckpoint(key_id=checkpoints.key_id, org="acme", sequence=1, hash=b"h" * 32))
    suspended = governance.encode(make_key_state(wrapped, "suspended", START))
    decider.keyring.change_key(ChangeKey(intent=suspended, approvals=approve(suspended, "alice", "bob")))
    document = policy_bytes(make_policy(version=2, allow=rules))
    decider.change_policy(ask_change(document, "alice", "bob"))
    last = make_payment(stellar, START, policy_version=2)
    decider.sign(approved(last, bind_stellar(last, 2)))
    return desk


def read_facts(desk: Desk) -> list[Dated]:
    return [(at, load_fact(body)) for entry in read_entries(desk.directory) for at, body in entry.facts]


def write_facts(path: Path, facts: list[Dated]) -> None:
    """A journal of one fact per entry, as somebody writes it who has the disk and not the HSM."""
    lines = [
        b"%d\t%s\t%d %s\n" % (n, b"00" * 32, at, dump_fact(fact)) for n, (at, fact) in enumerate(facts, 1)
    ]
    path.write_bytes(b"".join(lines))


def audit(path: Path, *anchors: str) -> Report:
    return inspect(read_entries(path), anchors, keep=True)


def anchor_of(desk: Desk) -> str:
    return max((desk.token.texts[place] for place in (0, 1)), key=lambda text: int(text.split()[1]))


def place_of(facts: list[Dated], shape: type[Fact]) -> int:
    """Where the last fact of this type stands."""
    return max(place for place, (_, fact) in enumerate(facts) if isinstance(fact, shape))


def test_every_decision_stands_and_the_journal_goes_through_the_tokens_anchor(site: Desk) -> None:
    report = audit(site.directory, anchor_of(site))
    assert f"{report.entries} {report.head.hex()} {report.policy_hash.hex()}" in anchor_of(site)
    assert report.signatures == 3
    shown = [(row.what, row.rule, row.people, row.tx_hash != "") for row in report.rows]
    assert ("stellar_payment", "stellar", ("alice", "bob"), True) in shown
    assert ("quorum complete", "evm", ("alice", "bob"), False) in shown
    assert ("evm_transfer", "evm", ("alice", "bob"), True) in shown
    assert ("rejected", "", ("carol",), False) in shown
    assert ("key to suspended", "states", ("alice", "bob"), False) in shown
    assert ("policy 2 accepted", "governance", ("alice", "bob"), False) in shown
    assert ("key into active", "keys-ed25519", (), False) in shown
    assert ("checkpoint 1", "", (), False) in shown


def test_an_export_of_a_running_signer_verifies_and_is_the_journal(site: Desk, tmp_path: Path) -> None:
    out = tmp_path / "export.jsonl"
    assert main(["audit", "signer", "export", "--journal", str(site.directory), "--out", str(out)]) == 0
    assert audit(out, anchor_of(site)) == audit(site.directory)
    shown = [json.loads(line) for line in out.read_text().splitlines()]
    lines = ["\t".join([str(each["n"]), each["mac"], *each["facts"]]) + "\n" for each in shown]
    assert "".join(lines).encode() == b"".join(site.lines())


def test_an_export_never_overwrites(site: Desk, tmp_path: Path) -> None:
    out = tmp_path / "export.jsonl"
    out.write_text("mine")
    assert main(["audit", "signer", "export", "--journal", str(site.directory), "--out", str(out)]) == 2
    assert out.read_text() == "mine"


def test_the_command_prints_decisions_and_the_anchor_to_compare(
    site: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["audit", "signer", "verify", "--journal", str(site.directory), "--list"]
    assert main(words) == 0
    told = capsys.readouterr().out
    for row in audit(site.directory).rows:
        assert row.subject in told
        assert row.tx_hash in told
    assert "no anchor was given" in told
    assert anchor_of(site).removeprefix("custody-anchor-v2") in told
    assert main([*words, "--anchor", f"2 {'00' * 32} {'00' * 32}"]) == 1
    assert "anchor at entry 2" in capsys.readouterr().err


def test_a_line_that_is_being_written_is_not_read(site: Desk, tmp_path: Path) -> None:
    path = tmp_path / "copy.log"
    path.write_bytes(b"".join(site.lines()) + b"99\tabc")
    assert audit(path) == audit(site.directory)


def test_a_dropped_line_is_named(site: Desk, tmp_path: Path) -> None:
    path = tmp_path / "copy.log"
    lines = site.lines()
    for n in range(1, len(lines)):
        path.write_bytes(b"".join(lines[: n - 1] + lines[n:]))
        with pytest.raises(EvidenceFault, match=f"journal entry {n} cannot be read"):
            audit(path)


def test_a_cut_end_needs_the_anchor_to_be_seen(site: Desk, tmp_path: Path) -> None:
    path = tmp_path / "copy.log"
    path.write_bytes(b"".join(site.lines()[:-1]))
    assert audit(path).entries == len(site.lines()) - 1
    with pytest.raises(EvidenceFault, match="ends before its anchor"):
        audit(path, anchor_of(site))


def test_an_export_with_another_head_does_not_chain(site: Desk) -> None:
    out = io.BytesIO()
    write_export(site.directory, out)
    lines = out.getvalue().splitlines(keepends=True)
    path = site.directory / "export.jsonl"
    for n, line in enumerate(lines, start=1):
        entry = json.loads(line)
        changed = json.dumps({**entry, "mac": "ff" * 32}).encode() + b"\n"
        path.write_bytes(b"".join([*lines[: n - 1], changed, *lines[n:]]))
        with pytest.raises(EvidenceFault, match=f"journal entry {n} does not chain"):
            audit(path)


def _spoil(shape: type[Fact], **changes: object) -> Callable[[list[Dated]], int]:
    """Change fields of the last fact of a type; return the number of the entry that must be named."""

    def forge(facts: list[Dated]) -> int:
        place = place_of(facts, shape)
        at, fact = facts[place]
        facts[place] = (at, replace(fact, **changes))  # type: ignore[arg-type]  # by the test's own table
        return place + 1

    return forge


def _other_approval(facts: list[Dated]) -> int:
    place = place_of(facts, Bound)
    at, fact = facts[place]
    assert isinstance(fact, Bound)
    facts[place] = (at, replace(fact, approvals=approve(b'{"another":"intent"}', "alice", "bob")))
    return place + 1


def _one_person(facts: list[Dated]) -> int:
    place = place_of(facts, Bound)
    at, fact = facts[place]
    assert isinstance(fact, Bound)
    facts[place] = (at, replace(fact, approvals=fact.approvals[:1]))
    return place + 1


def _no_binding(facts: list[Dated]) -> int:
    """The binding is dropped, its signature left."""
    place = place_of(facts, Bound)
    del facts[place]
    return place_of(facts, TransactionSigned) + 1


def _signed_first(facts: list[Dated]) -> int:
    place = place_of(facts, TransactionSigned)
    facts[place - 1], facts[place] = facts[place], facts[place - 1]
    return place


def _signed_twice(facts: list[Dated]) -> int:
    facts.append(facts[place_of(facts, TransactionSigned)])
    return len(facts)


def _second_effect(facts: list[Dated]) -> int:
    """A whole new intent, approved, on a sequence number that is taken."""
    at, fact = facts[place_of(facts, Bound)]
    assert isinstance(fact, Bound)
    intent = replace(canonical.decode(fact.intent), request_id="6f1c1f6e-3c1d-4a52-9a1b-0d6a3a3f7c11")
    data = canonical.encode(intent)
    facts.append(
        (
            at,
            replace(
                fact,
                digest=canonical.digest(data),
                intent=data,
                approvals=approve(data, "alice", "bob"),
            ),
        )
    )
    return len(facts)


def _back_in_time(facts: list[Dated]) -> int:
    at, fact = facts[-1]
    facts[-1] = (at - 1000, fact)
    return len(facts)


def _rejected_before(facts: list[Dated]) -> int:
    """Somebody rejected what was signed."""
    place = place_of(facts, Bound)
    at, fact = facts[place]
    assert isinstance(fact, Bound)
    vote = approve(fact.intent, "carol", decision="reject")[0]
    facts.insert(place, (at, IntentVetoed(digest=fact.digest, intent=fact.intent, approval=vote)))
    return place + 2


def _wait_left_out(facts: list[Dated]) -> int:
    """The transfer that had to wait is dated as if it had not."""
    (place,) = [n for n, (_, fact) in enumerate(facts) if isinstance(fact, Bound) and fact.rule == "evm"]
    facts[place] = (START, facts[place][1])
    return place + 1


def _no_change_accepted(facts: list[Dated]) -> int:
    del facts[place_of(facts, PolicyAccepted)]
    return place_of(facts, PolicyAdopted) + 1


def _other_first_policy(facts: list[Dated]) -> int:
    at, fact = facts[0]
    assert isinstance(fact, PolicyAdopted)
    facts[0] = (at, replace(fact, document=fact.document.replace(b'"treasury"', b'"finances"')))
    return 1


FORGERIES = {
    "changed rule": (_spoil(Bound, rule="keys-ed25519"), "another rule"),
    "changed amount": (_spoil(Bound, amount=1), "another amount"),
    "changed bytes": (_spoil(Bound, unsigned=b"x"), "another unsigned"),
    "changed digest": (_spoil(Bound, digest=b"d" * 32), "another digest"),
    "other approval": (_other_approval, "bad_approval_signature"),
    "one person": (_one_person, "quorum_missing"),
    "no binding": (_no_binding, "never bound"),
    "signed first": (_signed_first, "never bound"),
    "signed twice": (_signed_twice, "signed before"),
    "changed transaction": (_spoil(TransactionSigned, tx=b"\0\0\0\2"), "TransactionSigned"),
    "changed hash": (_spoil(TransactionSigned, tx_hash="00" * 32), "its hash"),
    "second effect": (_second_effect, "slot_used"),
    "back in time": (_back_in_time, "dated before"),
    "rejected before": (_rejected_before, "vetoed"),
    "wait left out": (_wait_left_out, "cooling_down"),
    "no change accepted": (_no_change_accepted, "nothing was to be decided"),
    "other first policy": (_other_first_policy, "document"),
    "other policy": (_spoil(PolicyAccepted, document=b"{}"), "bad_policy"),
    "earlier policy": (_spoil(PolicyAccepted, effective_at=1), "another effective_at"),
    "other state": (_spoil(KeyStateChanged, state="destroyed"), "another state"),
    "other checkpoint": (_spoil(CheckpointSigned, hash=b"i" * 32), "not by the expected key"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_no_forgery_stands_and_its_entry_is_named(name: str, site: Desk, tmp_path: Path) -> None:
    forge, word = FORGERIES[name]
    facts = read_facts(site)
    path = tmp_path / "forged.log"
    write_facts(path, facts)
    audit(path)
    n = forge(facts)
    write_facts(path, facts)
    with pytest.raises(EvidenceFault, match=rf"journal entry {n}, fact 1 .*{word}"):
        audit(path)


def test_a_wholly_rewritten_past_is_seen_by_its_anchor_only(site: Desk, tmp_path: Path) -> None:
    facts = read_facts(site)
    path = tmp_path / "forged.log"
    write_facts(path, facts)
    assert audit(path).signatures == 3
    with pytest.raises(EvidenceFault, match="anchor"):
        audit(path, anchor_of(site))


def test_two_anchors_that_contradict_are_refused(site: Desk) -> None:
    with pytest.raises(EvidenceFault, match="two different anchors"):
        audit(site.directory, f"2 {'00' * 32} {'00' * 32}", f"2 {'11' * 32} {'00' * 32}")
    with pytest.raises(EvidenceFault, match="cannot be read"):
        audit(site.directory, "2 ab cd")


def test_an_anchor_holds_the_policy_too(site: Desk) -> None:
    count, head, _ = anchor_of(site).split()[1:]
    with pytest.raises(EvidenceFault, match="policy in force"):
        audit(site.directory, f"{count} {head} {'00' * 32}")


def test_a_decision_is_dated_once_however_long_it_takes(make_signer: Callable[..., Desk]) -> None:
    """An intent that runs out while it is decided about is bound at the second at which it was still valid."""
    desk = make_signer()
    decider = desk.start()
    intent = make_payment(make_key(decider, "ed25519"), START, expires_at=START + 1)
    assert desk.record is not None
    desk.record.close()
    ticks = iter(range(START, START + 100))
    desk.record = Record.open(
        directory=desk.directory,
        mac=desk.token.mac,
        store=desk.token,
        policy=None,
        clock=lambda: next(ticks),
    )
    Decider(desk.record, desk.token).sign(approved(intent, bind_stellar(intent, 1)))
    assert [at for at, fact in read_facts(desk) if isinstance(fact, Bound)] == [START]
