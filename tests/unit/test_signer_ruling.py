"""The rules as a table: one row per case, judged at a stated time with stated people and a stated past."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from signer.policy.document import Policy, parse_policy
from signer.policy.effect import Effect
from signer.policy.groups import Demand, seat
from signer.policy.hours import Hours
from signer.policy.ruling import Ruling, rule_on
from tests.fakes.signer_people import approver_key, key_entry, make_key_rule, make_policy, make_rule

EVM, OTHER_EVM = "eip155:31337", "eip155:1"
BANK, SHOP = "0x00000000000000000000000000000000000000b1", "0x00000000000000000000000000000000000000b2"
MONDAY_NOON = int(datetime(2027, 1, 11, 12, tzinfo=UTC).timestamp())
DESK, BOARD = {"group": "desk", "threshold": 1}, {"group": "board", "threshold": 2}
PEOPLE = {"ada": ["desk", "board"], "bob": ["board"], "cyd": ["board"], "dee": ["desk"]}
BOOK = {"banks": [{"chain": EVM, "address": BANK, "label": "our bank"}]}
AUTOMATIC = {
    "kind": "evm_transfer", "asset": "native", "approvals": [],
    "windows": [{"seconds": 60, "amount_max": "100", "count_max": 3}],
}  # fmt: skip
OFFICE = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}]


def policy_of(*allow: dict[str, object], deny: tuple[dict[str, object], ...] = ()) -> Policy:
    people = [
        {"id": name, "keys": [key_entry(approver_key(name))], "groups": groups}
        for name, groups in PEOPLE.items()
    ]
    document = make_policy(
        approvers=people,
        address_book=BOOK,
        governance={"approvals": [BOARD], "cool_down_s": 0},
        deny=list(deny),
        allow=list(allow),
    )
    return parse_policy(json.dumps(document).encode())


def rule(name: str = "r", **changes: object) -> dict[str, object]:
    return make_rule(name, **{"approvals": [DESK], **changes})


def deny(**changes: object) -> dict[str, object]:
    names = ("org", "vault", "key", "chain", "kind", "asset")
    return {"id": "no", **dict.fromkeys(names, "*"), "destinations": ["*"], **changes}


def effect(**changes: Any) -> Effect:
    plain = {
        "org": "acme", "vault": "hot", "key": "aa", "chain": EVM, "kind": "evm_transfer", "asset": "native",
        "destinations": (BANK,), "amount": 10, "moved": 10, "fee_cap": 5, "needs_own_rule": False,
        "needs_listed_destination": False,
    }  # fmt: skip
    return Effect(**{**plain, **changes})


def ruling(
    policy: Policy,
    asked: Effect,
    *names: str,
    past: tuple[int, int] = (0, 0),
    now: int = MONDAY_NOON,
) -> Ruling:
    return rule_on(policy, asked, frozenset(names), lambda _rule, _seconds: past, now)


KEY_MADE = effect(
    kind="key_create", chain="ed25519", asset="none", amount=0, moved=0, fee_cap=0, needs_own_rule=True
)


@pytest.mark.parametrize(
    ("allow", "changes", "names", "code"),
    [
        # Scope: every field that a rule names has to be the effect's.
        ([rule()], {}, ("ada",), "ok"),
        ([], {}, ("ada", "bob"), "no_rule"),
        ([rule(org="acme")], {}, ("ada",), "ok"),
        ([rule(org="evil")], {}, ("ada",), "no_rule"),
        ([rule(vault="cold")], {}, ("ada",), "no_rule"),
        ([rule(key="aa")], {}, ("ada",), "ok"),
        ([rule(key="bb")], {}, ("ada",), "no_rule"),
        ([rule(chain=OTHER_EVM)], {}, ("ada",), "no_rule"),
        ([rule(kind="evm_erc20_transfer")], {}, ("ada",), "no_rule"),
        ([rule(asset="0xtoken")], {}, ("ada",), "no_rule"),
        # Destinations: an address, a list, and a list on another chain.
        ([rule(destinations=[BANK])], {}, ("ada",), "ok"),
        ([rule(destinations=[BANK])], {"destinations": (SHOP,)}, ("ada",), "no_rule"),
        ([rule(destinations=["@banks"])], {}, ("ada",), "ok"),
        ([rule(destinations=["@banks"])], {"destinations": (SHOP,)}, ("ada",), "no_rule"),
        ([rule(destinations=[SHOP, "@banks"])], {"destinations": (SHOP,)}, ("ada",), "ok"),
        ([rule(chain="*", destinations=["@banks"])], {"chain": OTHER_EVM}, ("ada",), "no_rule"),
        ([rule(destinations=["@banks"])], {"destinations": ("@banks",)}, ("ada",), "no_rule"),
        ([rule(destinations=["vault:cold"])], {"destinations": (SHOP, "vault:cold")}, ("ada",), "ok"),
        ([rule(destinations=["vault:cold"])], {"destinations": (SHOP,)}, ("ada",), "no_rule"),
        (
            [rule(chain="*", destinations=["vault:cold"])],
            {"destinations": (SHOP, "vault:cold")},
            ("ada",),
            "ok",
        ),
        ([rule()], {"needs_listed_destination": True}, ("ada",), "no_rule"),
        ([rule(destinations=["@banks"])], {"needs_listed_destination": True}, ("ada",), "ok"),
        # Caps, inclusive.
        ([rule(amount_max="10")], {}, ("ada",), "ok"),
        ([rule(amount_max="9")], {}, ("ada",), "over_amount_cap"),
        ([rule(fee_max="5")], {}, ("ada",), "ok"),
        ([rule(fee_max="4")], {}, ("ada",), "over_fee_cap"),
        # Kinds whose reach no amount describes.
        ([rule(chain="*")], {"needs_own_rule": True}, ("ada",), "no_rule"),
        ([rule(kind="evm_transfer")], {"needs_own_rule": True}, ("ada",), "ok"),
        # Groups.
        ([rule()], {}, (), "quorum_missing"),
        ([rule()], {}, ("bob",), "quorum_missing"),
        ([rule(approvals=[BOARD])], {}, ("ada", "bob"), "ok"),
        ([rule(approvals=[BOARD])], {}, ("ada", "dee"), "quorum_missing"),
        ([rule(approvals=[DESK, BOARD])], {}, ("ada", "bob", "cyd"), "ok"),
        ([rule(approvals=[DESK, BOARD])], {}, ("ada", "bob"), "quorum_missing"),
        ([rule(approvals=[DESK, BOARD])], {}, ("ada", "bob", "dee"), "ok"),
        ([rule(approvals=[BOARD, DESK])], {}, ("ada", "bob", "dee"), "ok"),
        ([rule(approvals=[BOARD, DESK])], {}, ("bob", "cyd"), "quorum_missing"),
        # Order: the first that holds decides, although a later one asks for less.
        ([rule("a", amount_max="9"), rule("b", approvals=[BOARD])], {}, ("ada",), "quorum_missing"),
        ([rule("a", approvals=[BOARD]), rule("b")], {}, ("ada",), "quorum_missing"),
        ([rule("a"), rule("b", approvals=[BOARD])], {}, ("ada",), "ok"),
        # Nobody is asked.
        ([rule(**AUTOMATIC)], {}, (), "ok"),
        ([rule(**AUTOMATIC)], {"kind": "evm_erc20_transfer"}, (), "no_rule"),
        ([rule(**AUTOMATIC, amount_max="9")], {}, (), "over_amount_cap"),
    ],
)
def test_rules(
    allow: list[dict[str, object]], changes: dict[str, Any], names: tuple[str, ...], code: str
) -> None:
    assert ruling(policy_of(*allow), effect(**changes), *names).code == code


@pytest.mark.parametrize("named", [{"destinations": [BANK]}, {"destinations": ["@banks"]}, {"key": "aa"}, {}])
def test_a_deny_rule_comes_before_any_quorum(named: dict[str, object]) -> None:
    found = ruling(policy_of(rule(), deny=(deny(**named),)), effect(), *PEOPLE)
    assert (found.verdict, found.code, found.rule) == ("deny", "denied_by_rule", "no")


@pytest.mark.parametrize("named", [{"destinations": [SHOP]}, {"key": "bb"}, {"chain": OTHER_EVM}])
def test_a_deny_rule_that_speaks_of_another_thing_stops_nothing(named: dict[str, object]) -> None:
    assert ruling(policy_of(rule(), deny=(deny(**named),)), effect(), "ada").code == "ok"


@pytest.mark.parametrize(
    ("amount_max", "count_max", "past", "code"),
    [
        ("100", 3, (0, 0), "ok"),
        ("100", 3, (90, 1), "ok"),
        ("100", 3, (91, 1), "over_velocity"),
        ("100", 3, (20, 2), "ok"),
        ("100", 3, (20, 3), "over_velocity"),
        ("0", 3, (0, 0), "over_velocity"),
    ],
)
@pytest.mark.parametrize("approvals", [[], [DESK]])
def test_a_window_caps_amount_and_number(
    amount_max: str, count_max: int, past: tuple[int, int], code: str, approvals: list[dict[str, object]]
) -> None:
    window = {"seconds": 60, "amount_max": amount_max, "count_max": count_max}
    limited = rule(kind="evm_transfer", asset="native", windows=[window], approvals=approvals)
    assert ruling(policy_of(limited), effect(), "ada", past=past).code == code


def test_every_window_has_to_hold() -> None:
    windows = [{"seconds": s, "amount_max": m, "count_max": 9} for s, m in ((60, "100"), (3600, "15"))]
    policy = policy_of(rule(asset="native", windows=windows))
    assert ruling(policy, effect(), "ada", past=(5, 1)).code == "ok"
    assert ruling(policy, effect(), "ada", past=(6, 1)).code == "over_velocity"


@pytest.mark.parametrize(
    ("at", "holds"),
    [
        (datetime(2027, 1, 11, 7, 59, 59, tzinfo=UTC), False),
        (datetime(2027, 1, 11, 8, tzinfo=UTC), True),
        (datetime(2027, 1, 11, 17, 59, 59, tzinfo=UTC), True),
        (datetime(2027, 1, 11, 18, tzinfo=UTC), False),
        (datetime(2027, 1, 15, 12, tzinfo=UTC), True),
        (datetime(2027, 1, 16, 12, tzinfo=UTC), False),
        (datetime(2027, 1, 17, 12, tzinfo=UTC), False),
        (datetime(2028, 2, 29, 12, tzinfo=UTC), True),
    ],
)
def test_hours_open_and_close_a_rule(at: datetime, holds: bool) -> None:
    found = ruling(policy_of(rule(hours=OFFICE)), effect(), "ada", now=int(at.timestamp()))
    assert found.code == ("ok" if holds else "outside_hours")


def test_a_whole_day_has_no_gap() -> None:
    day = Hours(days=("mon",), start="00:00", end="24:00")
    start = int(datetime(2027, 1, 11, tzinfo=UTC).timestamp())
    assert [day.hold(start + second) for second in (-1, 0, 86_399, 86_400)] == [False, True, True, False]


def test_a_closed_rule_leaves_the_decision_to_the_next() -> None:
    policy = policy_of(rule("day", hours=OFFICE), rule("night", approvals=[BOARD]))
    night = MONDAY_NOON + 12 * 3600
    assert (ruling(policy, effect(), "ada").rule, ruling(policy, effect(), "ada", now=night).rule) == (
        "day",
        "night",
    )


@pytest.mark.parametrize("curve", ["ed25519", "secp256k1"])
def test_a_key_is_made_only_by_a_rule_that_says_so(curve: str) -> None:
    everything = rule(chain="*")
    assert ruling(policy_of(everything), KEY_MADE, *PEOPLE).code == "no_rule"
    found = ruling(policy_of(everything, make_key_rule(curve)), KEY_MADE).code
    assert found == ("ok" if curve == "ed25519" else "no_rule")


@pytest.mark.parametrize(
    ("allow", "nearest", "obstacles"),
    [
        ((), "", ()),
        ((rule("a", org="evil", vault="cold"), rule("b", asset="0xtoken")), "b", ("asset",)),
        ((rule("a", chain=OTHER_EVM), rule("b", org="evil")), "a", ("chain",)),
        ((rule("a", org="evil"), rule("b", amount_max="9")), "b", ("over_amount_cap",)),
        ((rule("a", destinations=[SHOP]),), "a", ("destinations",)),
    ],
)
def test_a_refusal_names_the_nearest_rule_and_what_is_in_its_way(
    allow: tuple[dict[str, object], ...], nearest: str, obstacles: tuple[str, ...]
) -> None:
    found = ruling(policy_of(*allow), effect(), *PEOPLE)
    assert (found.nearest, found.obstacles) == (nearest, obstacles)


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        (("ada",), (("ada",), ())),
        (("ada", "dee"), (("dee",), ("ada",))),
        (("ada", "bob"), (("ada",), ("bob",))),
        (("ada", "bob", "cyd"), (("ada",), ("bob", "cyd"))),
        (("bob", "cyd"), ((), ("bob", "cyd"))),
        (("dee",), (("dee",), ())),
        ((), ((), ())),
    ],
)
def test_a_person_of_two_groups_fills_one_place(
    names: tuple[str, ...], counted: tuple[tuple[str, ...], ...]
) -> None:
    demands = (Demand(group="desk", threshold=1), Demand(group="board", threshold=2))
    counts = seat(demands, {name: PEOPLE[name] for name in names})
    assert tuple(count.counted for count in counts) == counted


def test_an_effect_without_a_known_amount_is_no_small_one() -> None:
    unknown = effect(needs_own_rule=True, amount=0, moved=0)
    assert ruling(policy_of(rule(amount_max="0")), unknown, *PEOPLE).obstacles == ("kind",)
