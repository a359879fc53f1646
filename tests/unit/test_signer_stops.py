"""Stops in the signer: one approver's word, at once and until a quorum ends it. An audit decides all of it again at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from signer.decide import Decider
from signer.protocol import canonical, governance, stops
from signer.protocol.approvals import GOVERNANCE_TAG, STOP_TAG, approval_message
from signer.protocol.canonical import MalformedIntent
from signer.protocol.intent import Intent
from signer.protocol.messages import Explain, KeyView, Sign, SignCheckpoint, Signed, Veto
from signer.protocol.stops import ListStops, Resume, Stop
from signer.refusal import Refusal
from tests.fakes.policy_desk import ask_change, next_policy
from tests.fakes.signer_desk import Desk, approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import bind_kind, make_kind
from tests.fakes.signer_people import (
    TOKEN,
    approve,
    bind_evm,
    bind_stellar,
    make_erc20,
    make_payment,
    make_policy,
    make_resume,
    make_stop,
    make_transfer,
)


def order(name: str = "carol", **changes: Any) -> Stop:
    """An order that this person signed."""
    data = stops.encode(make_stop(START, **changes))
    return Stop(order=data, approval=approve(data, name)[0])


def end(stop: Stop, *names: str, **changes: Any) -> Resume:
    """The end of this stop, approved by these people."""
    data = governance.encode(make_resume(stops.digest(stop.order), START, **changes))
    return Resume(intent=data, approvals=approve(data, *(names or ("alice", "bob"))))


def transfer(key: KeyView, nonce: int = 0, **changes: Any) -> Sign:
    return approved(make_transfer(key, START, **changes), bind_evm(nonce))


def test_one_approver_stops_all_at_once_and_a_quorum_lets_it_begin_again(signer: Desk) -> None:
    decider = signer.start()
    key, seals = make_key(decider), make_key(decider, "ed25519", vault="checkpoints")
    before = decider.sign(transfer(key))
    stop, waiting = order(), transfer(key, 1)
    assert decider.order_stop(stop) == decider.order_stop(stop)
    assert code_of(decider, waiting) == "stopped"
    told = decider.explain(Explain(intent=waiting.intent, approvals=waiting.approvals))
    assert (told.verdict, told.code) == ("deny", "stopped")
    decider = signer.start()
    assert code_of(decider, waiting) == "stopped"
    (shown,) = decider.list_stops(ListStops(org="acme")).stops
    assert (shown.scope, shown.approver, shown.since) == ("all", "carol", START)
    assert decider.list_stops(ListStops(org="beta")).total == 0
    seal = SignCheckpoint(key_id=seals.key_id, org="acme", sequence=1, hash=b"h" * 32)
    assert decider.sign_checkpoint(seal).sequence == 1
    ended = end(stop)
    assert decider.resume(ended) == decider.resume(ended)
    assert decider.list_stops(ListStops(org="acme")).total == 0
    assert isinstance(decider.sign(waiting), Signed)
    assert before.tx != decider.sign(waiting).tx


def test_bytes_signed_before_are_given_again_while_stopped(signer: Desk) -> None:
    decider = signer.start()
    asked = transfer(make_key(decider))
    signed = decider.sign(asked)
    decider.order_stop(order())
    assert decider.sign(asked) == signed


def test_a_rejection_still_ends_an_intent_while_stopped(signer: Desk) -> None:
    decider = signer.start()
    asked = transfer(make_key(decider))
    decider.order_stop(order())
    decider.veto(Veto(intent=asked.intent, approvals=approve(asked.intent, "bob", decision="reject")))
    assert code_of(decider, asked) == "vetoed"


Ask = Callable[[KeyView, KeyView], Sign]


def ask(intent: Intent, binding: Any) -> Sign:
    return approved(intent, binding)


def pay(key: KeyView, **changes: Any) -> Sign:
    intent = make_payment(key, START, **changes)
    return approved(intent, bind_stellar(intent, 7))


def convert(key: KeyView) -> Sign:
    intent = make_kind("stellar_path_payment_strict_send", key, START)
    return approved(intent, bind_kind(intent, 8))


def received(key: KeyView) -> str:
    intent = make_kind("stellar_path_payment_strict_send", key, START)
    return str(intent.dest_asset)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("place", "stopped", "goes_on"),
    [
        (lambda s, e: {"scope": "chain", "chain": "eip155:31337"}, lambda s, e: transfer(e), lambda s, e: pay(s)),
        (lambda s, e: {"scope": "chain", "chain": "stellar:devnet"}, lambda s, e: pay(s), lambda s, e: transfer(e)),
        (lambda s, e: {"scope": "asset", "chain": "eip155:31337", "subject": TOKEN},
         lambda s, e: ask(make_erc20(e, START), bind_evm(3)), lambda s, e: transfer(e)),
        (lambda s, e: {"scope": "asset", "chain": "eip155:31337", "subject": "native"},
         lambda s, e: transfer(e), lambda s, e: ask(make_erc20(e, START), bind_evm(3))),
        (lambda s, e: {"scope": "asset", "chain": "stellar:devnet", "subject": received(s)},
         lambda s, e: convert(s), lambda s, e: pay(s)),
        (lambda s, e: {"scope": "vault", "subject": "hot"}, lambda s, e: pay(s), None),
        (lambda s, e: {"scope": "key", "subject": e.key_id}, lambda s, e: transfer(e), lambda s, e: pay(s)),
    ],
    ids=["evm", "stellar", "token", "native", "received by a conversion", "vault", "key"],
)  # fmt: skip
def test_a_stop_covers_its_place_and_nothing_else(
    decider: Decider, place: Callable[..., dict[str, str]], stopped: Ask, goes_on: Ask | None
) -> None:
    stellar, evm = make_key(decider, "ed25519"), make_key(decider)
    other = make_key(decider, vault="cold")
    decider.order_stop(order(**place(stellar, evm)))
    assert code_of(decider, stopped(stellar, evm)) == "stopped"
    asked = transfer(other) if goes_on is None else goes_on(stellar, evm)
    assert isinstance(decider.sign(asked), Signed)


def test_a_channel_that_is_stopped_lends_no_sequence(decider: Decider) -> None:
    key = make_key(decider, "ed25519")
    channel = make_key(decider, "ed25519", vault="channels")
    decider.order_stop(order(scope="vault", subject="channels"))
    intent = make_kind("stellar_channel_payment", key, START, channel=channel.address)
    assert code_of(decider, approved(intent, bind_kind(intent, 8))) == "stopped"


def test_each_stop_of_a_place_has_to_be_ended_by_itself(decider: Decider) -> None:
    asked = transfer(make_key(decider))
    first, second = order("alice"), order("bob")
    decider.order_stop(first)
    decider.order_stop(second)
    decider.resume(end(first))
    assert code_of(decider, asked) == "stopped"
    decider.resume(end(second))
    assert isinstance(decider.sign(asked), Signed)


def test_a_stop_outlives_the_policy_and_the_person_who_ordered_it(decider: Decider) -> None:
    key, stop = make_key(decider), order()
    decider.order_stop(stop)
    document = next_policy(allow=make_policy()["allow"])
    decider.change_policy(ask_change(document, "alice", "bob"))
    assert code_of(decider, transfer(key, policy_version=2)) == "stopped"
    with pytest.raises(Refusal, match="wrong_policy_version"):
        decider.resume(end(stop))
    decider.resume(end(stop, policy_version=2))
    assert isinstance(decider.sign(transfer(key, policy_version=2)), Signed)


def test_no_signature_leaves_that_was_under_way_when_the_stop_came(signer: Desk) -> None:
    """The order comes while the HSM makes the signature: its bytes are journaled nowhere and given to nobody."""
    decider = signer.start()
    asked, stop = transfer(make_key(decider)), order()
    given: list[str] = []

    def meanwhile(call: str) -> None:
        if call == "sign" and not given:
            given.append(call)
            decider.order_stop(stop)

    signer.token.between = meanwhile
    assert code_of(decider, asked) == "stopped"
    assert not any(b'"TransactionSigned"' in line for line in signer.lines())
    signer.token.between = None
    assert code_of(signer.start(), asked) == "stopped"
    decider = signer.start()
    decider.resume(end(stop))
    assert isinstance(decider.sign(asked), Signed)


# --- the order's bytes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"scope": "everything"}, "bad_choice"),
        ({"scope": "all", "subject": "hot"}, "out_of_range"),
        ({"scope": "all", "chain": "stellar:devnet"}, "out_of_range"),
        ({"scope": "chain"}, "out_of_range"),
        ({"scope": "chain", "chain": "bitcoin:main"}, "bad_chain"),
        ({"scope": "vault"}, "bad_name"),
        ({"scope": "key", "subject": "hot"}, "bad_key_id"),
        ({"scope": "asset", "chain": "stellar:devnet", "subject": "USDC"}, "bad_asset"),
        ({"scope": "asset", "chain": "eip155:1", "subject": "USDC"}, "bad_address"),
        ({"reason": ""}, "bad_reason"),
        ({"expires_at": START - 5}, "empty_window"),
    ],
)
def test_an_order_that_says_nothing_clear_cannot_be_written(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(MalformedIntent) as caught:
        stops.encode(make_stop(START, **changes))
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"org": "beta"}, "unknown_key"),
        ({"scope": "vault", "subject": "hott"}, "unknown_key"),
        ({"scope": "key", "subject": "0" * 32}, "unknown_key"),
        ({"scope": "chain", "chain": "stellar:devnett"}, "unknown_network"),
        ({"scope": "asset", "chain": "eip155:31337", "subject": TOKEN.lower()}, "bad_checksum"),
        ({"not_before": START + 1}, "not_yet"),
        ({"expires_at": START}, "expired"),
    ],
)
def test_an_order_with_a_slip_is_refused_rather_than_stopping_nothing(
    decider: Decider, changes: dict[str, Any], code: str
) -> None:
    make_key(decider)
    with pytest.raises(Refusal) as caught:
        decider.order_stop(order(**changes))
    assert caught.value.code == code


def test_the_specification_shows_an_order_that_holds() -> None:
    section = Path(stops.__file__).with_name("SPEC.md").read_text().partition("## 13. Stops")[2]
    for shown, decode, name, tag in (
        (section.partition("An order:\n```\n")[2], stops.decode, stops.digest, STOP_TAG),
        (section.partition("Its end:\n```\n")[2], governance.decode, governance.digest, GOVERNANCE_TAG),
    ):
        data, digest, message = shown.splitlines()[:3]
        assert decode(data.encode())
        assert digest.endswith(name(data.encode()).hex())
        expected = approval_message(
            decision="approve", digest=name(data.encode()), approver_set_version=1, tag=tag
        )
        assert message.endswith(expected.hex())
    assert canonical.DIGEST_TAG != stops.DIGEST_TAG
