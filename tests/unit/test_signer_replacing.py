"""Who has to agree that a nonce is bid for again, or used up for nothing."""

from typing import Any
from uuid import uuid4

import pytest
from eth_account import Account
from hexbytes import HexBytes

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.messages import EvmBinding, KeyView, Sign, Veto
from tests.fakes.policy_desk import ask_change, next_policy, people
from tests.fakes.signer_desk import approved, code_of, make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_kinds import make_kind
from tests.fakes.signer_people import approve, bind_evm, make_transfer
from tests.unit.test_signer_slots import CAPS, GWEI, bid, cancel, read, replacement, sign_first

# --- who has to agree -----------------------------------------------------------------------------------------------------


def as_first(first: Any, again: Any, binding: EvmBinding) -> Sign:
    """Ask for a replacement with the approvals of what it replaces."""
    given = approve(canonical.encode(first), "alice", "bob")
    return Sign(intent=canonical.encode(again), approvals=given, binding=binding)


def sign_with_room(decider: Decider) -> tuple[KeyView, Any]:
    """Sign a transfer at 20 gwei with 1 gwei of tip, where people approved 30 and 3."""
    key = make_key(decider)
    intent = make_transfer(key, START, max_priority_fee_per_gas=3 * GWEI)
    decider.sign(approved(intent, bind_evm(0)))
    return key, intent


def within(key: KeyView, first: Any, **changes: Any) -> Any:
    caps = {
        "max_fee_per_gas": first.max_fee_per_gas,
        "max_priority_fee_per_gas": first.max_priority_fee_per_gas,
    }
    return replacement(key, first, **caps | changes)


def test_a_replacement_at_a_price_that_people_approved_asks_nobody_again(decider: Decider) -> None:
    key, first = sign_with_room(decider)
    again = decider.sign(as_first(first, within(key, first), bid(0, 25 * GWEI, 2 * GWEI)))
    assert Account.recover_transaction(again.tx) == key.address
    assert decider.sign(
        as_first(first, within(key, first, request_id=str(uuid4())), bid(0, 28 * GWEI, 3 * GWEI))
    )
    nobody = Sign(
        intent=canonical.encode(within(key, first)), approvals=(), binding=bid(0, 30 * GWEI, 3 * GWEI)
    )
    assert code_of(decider, nobody) == "quorum_missing"


@pytest.mark.parametrize("field", ["max_fee_per_gas", "max_priority_fee_per_gas"])
def test_one_wei_above_what_was_approved_people_are_asked(decider: Decider, field: str) -> None:
    key, first = sign_with_room(decider)
    dearer = within(key, first, **{field: getattr(first, field) + 1})
    assert code_of(decider, as_first(first, dearer, bid(0, 25 * GWEI, 2 * GWEI))) == "bad_approval_signature"
    assert decider.sign(approved(dearer, bid(0, 25 * GWEI, 2 * GWEI)))


def test_a_veto_stops_a_replacement_that_asks_nobody(decider: Decider) -> None:
    key, first = sign_with_room(decider)
    again, dearer = within(key, first), bid(0, 25 * GWEI, 2 * GWEI)
    data = canonical.encode(again)
    decider.veto(Veto(intent=data, approvals=approve(data, "bob", decision="reject")))
    assert code_of(decider, as_first(first, again, dearer)) == "vetoed"


def test_what_another_set_of_approvers_agreed_to_is_asked_again(decider: Decider) -> None:
    key, first = sign_with_room(decider)
    changed = next_policy(approvers=people("alice", "bob"), approver_set_version=2)
    decider.change_policy(ask_change(changed, "alice", "bob"))
    asked = as_first(first, within(key, first, policy_version=2), bid(0, 25 * GWEI, 2 * GWEI))
    assert code_of(decider, asked) == "bad_approval_signature"


def test_a_cancel_asks_people_whatever_its_price(decider: Decider) -> None:
    key, first = sign_with_room(decider)
    cheap = cancel(key, first, max_fee_per_gas=first.max_fee_per_gas, max_priority_fee_per_gas=2 * GWEI)
    assert code_of(decider, as_first(first, cheap, bid(0, 25 * GWEI, 2 * GWEI))) == "bad_approval_signature"


# --- gaps -----------------------------------------------------------------------------------------------------------------


def test_a_gap_is_filled_by_nothing_sent_to_itself_and_can_be_cancelled(decider: Decider) -> None:
    key, _, _ = sign_first(decider, nonce=1)
    fill = make_kind("evm_fill", key, START, gas_limit=21_000, **CAPS)
    assert code_of(decider, approved(fill, bid(1, 30 * GWEI, 2 * GWEI))) == "slot_used"
    signed = decider.sign(approved(fill, bid(0, 20 * GWEI, GWEI)))
    fields = read(signed)
    assert (HexBytes(fields["to"]), fields["value"], fields["nonce"]) == (HexBytes(key.address), 0, 0)
    assert decider.sign(approved(cancel(key, fill), bid(0, 30 * GWEI, 2 * GWEI)))
