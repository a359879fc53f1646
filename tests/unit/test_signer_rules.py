"""Which rule decides, and what the journal's own counters allow."""

from collections.abc import Callable

import pytest

from signer.decide import Decider
from signer.protocol import canonical
from signer.protocol.intent import Intent
from signer.protocol.messages import Explain, Sign
from signer.refusal import HsmFault
from tests.fakes.signer_desk import Desk, approved, code_of, make_key, make_request
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import (
    CUSTOMER,
    ISSUER,
    RECEIVER,
    approve,
    bind_evm,
    make_anchor,
    make_erc20,
    make_key_rule,
    make_payment,
    make_rule,
    make_transfer,
)

KEYS = [make_key_rule("ed25519"), make_key_rule("secp256k1")]


def asks(threshold: int, group: str = "treasury") -> list[dict[str, object]]:
    return [{"group": group, "threshold": threshold}]


# --- rules ---------------------------------------------------------------------------------------------------------------


def explain(decider: Decider, intent: Intent, *names: str) -> tuple[str, str, str, int]:
    data = canonical.encode(intent)
    told = decider.explain(Explain(intent=data, approvals=approve(data, *names)))
    missing = sum(each.threshold - len(each.counted) for each in told.groups)
    return told.verdict, told.code, told.rule, missing


def test_rules_deny_first_then_the_first_that_holds_then_no(make_signer: Callable[..., Desk]) -> None:
    deny = {
        "id": "burn", "org": "*", "vault": "*", "key": "*", "chain": "*", "kind": "*", "asset": "*",
        "destinations": [CUSTOMER, "0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69"],
    }  # fmt: skip
    small = make_rule("small", amount_max="100", approvals=asks(1), asset="native")
    large = make_rule("large", amount_max="1000", asset="native", destinations=[RECEIVER])
    decider = make_signer(deny=[deny], allow=[small, large, *KEYS]).start()
    key = make_key(decider)

    def transfer(amount: int) -> Intent:
        return make_transfer(key, START, amount=amount)

    assert explain(decider, transfer(100), "bob") == ("allow", "ok", "small", 0)
    assert explain(decider, transfer(101), "bob") == ("wait", "quorum_missing", "large", 1)
    assert explain(decider, transfer(1001), "bob", "alice") == ("deny", "over_amount_cap", "large", 0)
    assert explain(decider, make_erc20(key, START), "bob") == ("deny", "no_rule", "", 0)
    burnt = make_transfer(key, START, amount=1, destination="0x6813Eb9362372EEF6200f3b1dbC3f819671cBA69")
    assert explain(decider, burnt, "bob") == ("deny", "denied_by_rule", "burn", 0)
    assert code_of(decider, approved(burnt, bind_evm(0))) == "denied_by_rule"
    costly = make_transfer(key, START, amount=1, gas_limit=2**24, max_fee_per_gas=10**12)
    assert explain(decider, costly, "bob") == ("deny", "over_fee_cap", "large", 0)
    stellar = make_payment(make_key(decider, "ed25519"), START, asset=f"USDC:{ISSUER}", destination=ISSUER)
    assert explain(decider, stellar, "bob") == ("deny", "no_rule", "", 0)


def test_a_rule_for_payments_allows_no_anchor_and_one_for_anchors_no_payment(
    make_signer: Callable[..., Desk],
) -> None:
    stellar = {"chain": "stellar:devnet", "fee_max": "1000", "amount_max": "0"}
    paying = make_rule("paying", kind="stellar_payment", **{**stellar, "amount_max": str(2**63 - 1)})
    anchoring = make_rule("anchoring", kind="stellar_anchor", **stellar)
    for allow, covered in ((paying, "payment"), (anchoring, "anchor")):
        decider = make_signer(allow=[allow, *KEYS]).start()
        key = make_key(decider, "ed25519")
        for kind, intent in (("payment", make_payment(key, START)), ("anchor", make_anchor(key, START))):
            verdict = "allow" if kind == covered else "deny"
            assert explain(decider, intent, "alice", "bob")[0] == verdict


def test_velocity_counts_what_the_journal_bound(make_signer: Callable[..., Desk]) -> None:
    windows = [{"seconds": 100, "amount_max": "250", "count_max": 9}]
    signer = make_signer(allow=[make_rule("capped", asset="native", windows=windows), *KEYS])
    decider = signer.start()
    key = make_key(decider)

    def sign(amount: int, nonce: int) -> Sign:
        intent = make_transfer(
            key, START, amount=amount, request_id=f"{nonce:08x}-0000-0000-0000-000000000000"
        )
        return approved(intent, bind_evm(nonce))

    decider.sign(sign(200, 0))
    assert code_of(decider, sign(51, 1)) == "over_velocity"
    decider = signer.start()
    assert code_of(decider, sign(51, 1)) == "over_velocity"
    decider.sign(sign(50, 2))
    signer.token.now = START + 100
    assert code_of(decider, sign(51, 1)) == "over_velocity"
    signer.token.now = START + 101
    decider.sign(sign(250, 3))


def test_a_bound_intent_does_not_count_against_itself(make_signer: Callable[..., Desk]) -> None:
    windows = [{"seconds": 100, "amount_max": str(10**18), "count_max": 1}]
    signer = make_signer(allow=[make_rule("capped", asset="native", windows=windows), *KEYS])
    decider = signer.start()
    asked = make_request(decider, "transfer")
    signer.token.failing = "sign"
    with pytest.raises(HsmFault):
        decider.sign(asked)
    signer.token.failing = ""
    assert decider.sign(asked)


def test_explain_changes_nothing_and_never_raises(signer: Desk) -> None:
    decider = signer.start()
    intent = make_transfer(make_key(decider), START)
    before = (signer.directory / "journal.log").read_bytes()
    data = canonical.encode(intent)
    rejected = decider.explain(Explain(intent=data, approvals=approve(data, "bob", decision="reject")))
    assert (rejected.verdict, rejected.code) == ("deny", "vetoed")
    assert explain(decider, intent, "mallory")[1] == "unknown_approver"
    assert explain(decider, intent, "alice", "bob")[0] == "allow"
    assert (signer.directory / "journal.log").read_bytes() == before
