"""P: the policy, and what the signer remembers of it and of the past. The red team has the disk, other machines and the hour."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from signer.protocol import governance
from signer.protocol.messages import ChangePolicy, Signed
from tests.fakes.policy_desk import next_policy, people
from tests.fakes.signer_desk import approved
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import bind_kind, make_kind
from tests.fakes.signer_people import (
    APPROVERS,
    RECEIVER,
    TOKEN,
    approve,
    bind_evm,
    key_rules,
    make_change,
    make_erc20,
    make_key_rule,
    make_policy,
    make_rule,
    make_transfer,
    policy_bytes,
)
from tests.integration.signer_harness import PIN, SignerProcess
from tests.redteam.conftest import Attack, DeskSigner, ProcessAttack, changed
from tests.redteam.office import now
from tests.redteam.orders import QUORUM, RULES, TWO, change, transfer

On = Callable[..., ProcessAttack]
OnDesk = Callable[..., Attack[DeskSigner]]
SLOW = {"approvals": TWO, "cool_down_s": 3600}


# --- the past -----------------------------------------------------------------------------------------------------------


def lines_of(signer: SignerProcess) -> list[bytes]:
    return signer.journal.read_bytes().splitlines(keepends=True)


def test_p1_an_older_policy_put_back(attack_on: On) -> None:
    attack = attack_on()
    key = attack.makes_key()
    signer, before = attack.signer, attack.signer.journal.read_bytes()
    attack.takes_policy(change(next_policy(allow=RULES), *QUORUM, at=now()))
    signer.stop()
    whole = signer.journal.read_bytes()
    signer.start()
    attack.refuses("wrong_policy_version", transfer(key, now()))
    signer.stop()
    signer.journal.write_bytes(before)
    attack.keeps_from_starting("shorter than the anchor")
    signer.journal.write_bytes(whole)
    weaker = make_policy(approvers=people("mallory", "eve", "oscar"), version=2)
    (signer.directory / "policy.json").write_bytes(policy_bytes(weaker))
    attack.keeps_from_starting("policy file")


def test_p2_rows_of_the_journal_deleted_moved_or_edited(attack_on: On) -> None:
    attack = attack_on()
    key = attack.makes_key()
    attack.owes(attack.signer.ask(transfer(key, now())))
    signer = attack.signer
    signer.stop()
    whole = lines_of(signer)
    swapped = [*whole[:-2], whole[-1], whole[-2]]
    for rows in (whole[:-1], whole[:2] + whole[3:], whole[1:], swapped, [*whole, whole[-1]]):
        signer.journal.write_bytes(b"".join(rows))
        attack.keeps_from_starting("journal")
    signer.journal.unlink()
    attack.keeps_from_starting("journal")
    signer.journal.write_bytes(b"".join(whole))


def twin_of(signer: SignerProcess, directory: Path) -> SignerProcess:
    """The same disk on another machine, with the same HSM."""
    twin = SignerProcess(directory)
    shutil.copytree(signer.directory / "journal", directory / "journal")
    for name in ("softhsm2.conf", "policy.json"):
        shutil.copy(signer.directory / name, directory / name)
    twin.write_pin(PIN)
    twin.write_config()
    return twin


def test_p3_two_signers_on_one_journal(attack_on: On, tmp_path_factory: pytest.TempPathFactory) -> None:
    attack = attack_on()
    key = attack.makes_key()
    attack.keeps_from_starting("another signer", SignerProcess(attack.signer.directory))
    twin = twin_of(attack.signer, tmp_path_factory.mktemp("twin"))
    twin.start()
    try:
        attack.refuses("anchor_mismatch", transfer(key, now()))
        assert isinstance(twin.ask(transfer(key, now())), Signed)
    finally:
        twin.kill()
    attack.refuses("anchor_mismatch", transfer(key, now()))


def test_p7_a_second_first_start(attack_on: On) -> None:
    """Whoever can bring about a first start chooses the policy: a token that has served allows no other one."""
    attack = attack_on()
    signer = attack.signer
    mallorys = policy_bytes(make_policy(approvers=people("mallory", "eve", "oscar")))
    (signer.directory / "policy.json").write_bytes(mallorys)
    attack.keeps_from_starting("another signer", SignerProcess(signer.directory))
    signer.stop()
    whole = signer.journal.read_bytes()
    signer.journal.unlink()
    attack.keeps_from_starting("shorter than the anchor")
    signer.journal.write_bytes(whole)
    attack.keeps_from_starting("policy file")
    (signer.directory / "policy.json").write_bytes(policy_bytes(make_policy()))


def test_p8_a_clock_set_back(desk_attack_on: OnDesk) -> None:
    """To revive what has expired, or to have what was spent fall out of its window."""
    window = {"seconds": 100, "amount_max": "250", "count_max": 9}
    attack = desk_attack_on(allow=[make_rule("capped", asset="native", windows=[window]), *key_rules()])
    key = attack.makes_key()
    old = transfer(key, START, 1, amount=10, expires_at=START + 50)
    token = attack.signer.desk.token
    token.now = START + 60
    attack.owes(attack.signer.ask(transfer(key, START, amount=250)))
    attack.refuses("expired", old)
    for _ in range(2):
        token.now = START + 10
        attack.refuses("clock_backwards", old)
        attack.refuses("clock_backwards", transfer(key, START, 1, amount=250))
        token.now = START + 60
        attack.signer.restart()
        attack.refuses("over_velocity", transfer(key, START, 1, amount=1))
        token.now = START + 10
        attack.signer.restart()


# --- changing the policy ----------------------------------------------------------------------------------------------------


def test_p4_a_version_skipped_or_repeated(attack_on: On) -> None:
    attack = attack_on()
    honest = change(next_policy(), *QUORUM, at=now())
    for version in (0, 1, 3):
        data = changed(honest.intent, version=version)
        attack.refuses("malformed_intent", replace(honest, intent=data))
    for version in (1, 3):
        document = next_policy(version=version)
        attack.refuses("bad_policy", change(document, *QUORUM, at=now()), "another version")
    early = change(next_policy(version=3), *QUORUM, at=now(), policy_version=2, version=3)
    attack.refuses("wrong_policy_version", early)
    attack.takes_policy(honest)
    attack.refuses("wrong_policy_version", change(next_policy(networks={}), *QUORUM, at=now()))


def test_p5_a_policy_by_a_quorum_that_was_replaced(attack_on: On) -> None:
    attack = attack_on()
    new = next_policy(approvers=people("carol", "dave"), approver_set_version=2)
    attack.takes_policy(change(new, *QUORUM, at=now()))
    data = governance.encode(make_change(next_policy(version=3), now(), policy_version=2, version=3))
    for version in (1, 2):
        votes = approve(data, *QUORUM, version=version)
        request = ChangePolicy(intent=data, document=next_policy(version=3), approvals=votes)
        attack.refuses("unknown_approver", request)
    document = next_policy(version=3, approvers=people("carol", "dave"), approver_set_version=2)
    half = governance.encode(make_change(document, now(), policy_version=2, version=3))
    for names, code in ((["carol"], "quorum_missing"), (["carol", "alice"], "unknown_approver")):
        votes = approve(half, *names, version=2)
        attack.refuses(code, ChangePolicy(intent=half, document=document, approvals=votes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"approvers": people("alice"), "approver_set_version": 2}, "fewer people"),
        ({"approvers": [], "approver_set_version": 2}, "fewer people"),
        ({"governance": {"approvals": [{"group": "treasury", "threshold": 4}], "cool_down_s": 0}}, "fewer people"),
        ({"governance": {"approvals": [{"group": "ghosts", "threshold": 1}], "cool_down_s": 0}}, "fewer people"),
        ({"governance": {"approvals": [], "cool_down_s": 0}}, "somebody"),
        ({"allow": [make_rule("r", approvals=[{"group": "treasury", "threshold": 4}])]}, "fewer people"),
        ({"approvers": people(*QUORUM)}, "approver_set_version"),
    ],
)  # fmt: skip
def test_p6_a_policy_that_nobody_could_ever_change(
    desk_attack_on: OnDesk, changes: dict[str, object], said: str
) -> None:
    attack = desk_attack_on()
    attack.refuses("bad_policy", change(next_policy(**changes), *QUORUM, at=START), said)


def test_p11_an_address_listed_and_paid_before_anybody_looks(attack_on: On) -> None:
    allow = [make_rule("banks", destinations=["@banks"]), *key_rules()]
    attack = attack_on(allow=allow, address_book={"banks": []}, governance=SLOW)
    key = attack.makes_key()
    book = {"banks": [{"chain": "eip155:31337", "address": RECEIVER, "label": "a bank"}]}
    listing = change(next_policy(allow=allow, address_book=book, governance=SLOW), *QUORUM, at=now())
    attack.takes_policy(listing)
    attack.refuses("no_rule", transfer(key, now()))
    attack.refuses("wrong_policy_version", transfer(key, now(), policy_version=2))
    hasty = next_policy(allow=allow, address_book=book)
    attack.refuses("policy_pending", change(hasty, *QUORUM, at=now()))


def test_p14_an_administrator_alone_makes_himself_the_quorum(attack_on: On) -> None:
    attack = attack_on()
    alone = next_policy(
        approvers=people("alice"),
        approver_set_version=2,
        governance={"approvals": [{"group": "treasury", "threshold": 1}], "cool_down_s": 0},
    )
    harmless = change(next_policy(allow=RULES), *QUORUM, at=now())
    attack.refuses("quorum_missing", change(alone, "alice", at=now()))
    attack.refuses("initiator_approved", change(alone, *QUORUM, at=now(), initiator="alice"))
    attack.refuses("duplicate_approver", change(alone, "alice", "alice", at=now()))
    attack.refuses("unknown_approver", change(alone, "alice", "mallory", at=now()))
    attack.refuses("bad_policy", replace(harmless, document=alone))
    other = governance.encode(make_change(alone, now()))
    attack.refuses("bad_approval_signature", replace(harmless, document=alone, intent=other))


# --- the rules ------------------------------------------------------------------------------------------------------------


def test_p9_a_limit_evaded_by_many_small_payments_or_at_its_edge(desk_attack_on: OnDesk) -> None:
    window = {"seconds": 100, "amount_max": "250", "count_max": 9}
    attack = desk_attack_on(allow=[make_rule("capped", asset="native", windows=[window]), *key_rules()])
    key, second = attack.makes_key(), attack.makes_key()
    token = attack.signer.desk.token
    for nonce, amount in enumerate((100, 100, 50)):
        attack.owes(attack.signer.ask(transfer(key, START, nonce, amount=amount)))
    for payer in (key, second):
        attack.refuses("over_velocity", transfer(payer, START, 9, amount=1))
    attack.signer.restart()
    token.now = START + 100
    attack.refuses("over_velocity", transfer(key, START, 9, amount=1))
    token.now = START + 101
    attack.owes(attack.signer.ask(transfer(key, START, 9, amount=250)))
    attack.refuses("over_velocity", transfer(second, START, 9, amount=1))


def test_p9_a_limit_evaded_by_another_asset_or_an_effect_without_amount(desk_attack_on: OnDesk) -> None:
    window = {"seconds": 100, "amount_max": "250", "count_max": 9}
    capped = make_rule("capped", asset="native", windows=[window])
    stellar = make_rule("stellar", chain="stellar:devnet", amount_max=str(10**6), fee_max="100000")
    attack = desk_attack_on(allow=[capped, stellar, *key_rules()])
    key, account = attack.makes_key(), attack.makes_key("ed25519")
    other = attack.makes_key("ed25519")
    for kind in ("evm_erc20_transfer", "evm_erc20_approve"):
        intent = make_kind(kind, key, START)
        attack.refuses("no_rule", approved(intent, bind_kind(intent, 1), *QUORUM))
    for kind, changes in (
        ("stellar_account_merge", {"destination": other.address, "destination_vault": "hot"}),
        ("stellar_set_options", {}),
    ):
        intent = make_kind(kind, account, START, **changes)
        attack.refuses("no_rule", approved(intent, bind_kind(intent, 1), *QUORUM))
    for wide in ({"asset": "*"}, {"chain": "*"}):
        document = next_policy(allow=[{**capped, **wide}])
        attack.refuses("bad_policy", change(document, *QUORUM, at=START), "one chain and one asset")
    uncapped = make_key_rule("secp256k1", windows=[])
    attack.refuses("bad_policy", change(next_policy(allow=[uncapped]), *QUORUM, at=START), "asks nobody")


def test_p12_an_address_listed_on_one_chain_and_paid_on_another(desk_attack_on: OnDesk) -> None:
    book = {"banks": [{"chain": "eip155:31337", "address": RECEIVER, "label": "a bank"}]}
    rule = make_rule("banks", chain="*", destinations=["@banks"])
    attack = desk_attack_on(allow=[rule, *key_rules()], address_book=book)
    key = attack.makes_key()
    elsewhere = {"chain": "eip155:1", "chain_id": 1}
    attack.refuses("no_rule", transfer(key, START, **elsewhere))
    bare = next_policy(allow=[make_rule("bare", chain="*", destinations=[RECEIVER])])
    attack.refuses("bad_policy", change(bare, *QUORUM, at=START), "names one chain")
    attack.owes(attack.signer.ask(transfer(key, START)))


def test_p13_rules_in_another_order_shadowed_or_none_at_all(desk_attack_on: OnDesk) -> None:
    scope = ("id", "org", "vault", "key", "chain", "kind", "asset", "destinations")
    no = {name: make_rule("no")[name] for name in scope}
    strict = make_rule("strict", destinations=[RECEIVER], approvals=[{"group": "treasury", "threshold": 3}])
    lax = make_rule("lax", approvals=[{"group": "treasury", "threshold": 1}])
    three = desk_attack_on(allow=[strict, lax, *key_rules()])
    attacked = transfer(three.makes_key(), START)
    three.refuses("quorum_missing", attacked)
    forbidden = desk_attack_on(deny=[{**no, "kind": "evm_transfer"}], allow=[lax, *key_rules()])
    forbidden.refuses("denied_by_rule", transfer(forbidden.makes_key(), START))
    empty = desk_attack_on(allow=key_rules())
    empty.refuses("no_rule", transfer(empty.makes_key(), START))
    twice = next_policy(allow=[lax, {**strict, "id": "lax"}])
    empty.refuses("bad_policy", change(twice, *QUORUM, at=START), "one id")
    token = make_rule("token", asset=TOKEN)
    other = desk_attack_on(allow=[token, *key_rules()])
    other.refuses("no_rule", transfer(other.makes_key(), START))


def test_t22_an_address_that_nobody_may_be_paid_at(desk_attack_on: OnDesk) -> None:
    """On every chain, in every spelling, whoever approves it."""
    chains = ("eip155:31337", "eip155:1")
    entries = [{"chain": chain, "address": RECEIVER, "label": "sanctioned"} for chain in chains]
    scope = dict.fromkeys(("org", "vault", "key", "chain", "kind", "asset"), "*")
    attack = desk_attack_on(
        deny=[{"id": "sanctioned", **scope, "destinations": ["@sanctioned"]}],
        allow=[make_rule("evm", chain="*"), *key_rules()],
        address_book={"sanctioned": entries},
    )
    key = attack.makes_key()
    attack.refuses("denied_by_rule", approved(make_transfer(key, START), bind_evm(0), *APPROVERS))
    attack.refuses("denied_by_rule", transfer(key, START, chain="eip155:1", chain_id=1))
    attack.refuses("denied_by_rule", approved(make_erc20(key, START), bind_evm(0), *QUORUM))
    attack.refuses("bad_checksum", transfer(key, START, destination=RECEIVER.lower()))
    attack.owes(attack.signer.ask(transfer(key, START, destination=TOKEN)))
