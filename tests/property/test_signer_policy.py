"""What no policy may break: fewer approvals never allow more, one more deny rule never allows more, nobody counts twice, and the
platform's copy reaches the signer's verdict.
"""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from custody.policy.evaluate import evaluate
from custody.policy.evaluate import seat as platform_seat
from custody.policy.model import Decision, Facts, Standing, Word
from custody.policy.model import Demand as PlatformDemand
from custody.signing.client import read_policy
from signer.policy.document import Policy, parse_policy
from signer.policy.effect import Effect
from signer.policy.groups import Demand, seat
from signer.policy.ruling import Ruling, rule_on
from signer.policy.view import view_policy
from tests.fakes.signer_people import approver_key, key_entry, make_policy, make_rule, public_hex

GROUPS = ("desk", "board", "audit")
NAMES = ("ada", "bob", "cyd", "dee", "eve")
CHAINS = ("eip155:1", "eip155:2")
PLACES = ("0xa", "0xb", "0xc")
KEYS = {name: public_hex(approver_key(name)) for name in NAMES}

demands = st.lists(
    st.tuples(st.sampled_from(GROUPS), st.integers(1, 3)), max_size=3, unique_by=lambda each: each[0]
)
memberships = st.fixed_dictionaries({name: st.sets(st.sampled_from(GROUPS), min_size=1) for name in NAMES})
people = st.sets(st.sampled_from(NAMES))


def choice(*values: str) -> st.SearchStrategy[str]:
    return st.sampled_from(("*", *values))


destinations = st.one_of(
    st.just(["*"]), st.lists(st.sampled_from([*PLACES, "@known"]), min_size=1, unique=True)
)


@st.composite
def scopes(draw: st.DrawFn) -> dict[str, object]:
    return {
        "org": draw(choice("acme")), "vault": draw(choice("hot")), "key": draw(choice("k1")),
        "chain": draw(st.sampled_from(CHAINS)), "kind": draw(choice("evm_transfer", "evm_erc20_transfer")),
        "asset": "native", "destinations": draw(destinations),
    }  # fmt: skip


@st.composite
def allows(draw: st.DrawFn, number: int) -> dict[str, object]:
    window = {
        "seconds": 60, "amount_max": str(draw(st.integers(0, 40))), "count_max": draw(st.integers(1, 3)),
    }  # fmt: skip
    asked = draw(demands)
    scope = draw(scopes())
    if not asked:
        scope["kind"] = "evm_transfer"
    return make_rule(
        f"allow-{number}",
        **scope,
        amount_max=str(draw(st.integers(0, 40))),
        windows=[window] if not asked or draw(st.booleans()) else [],
        approvals=[{"group": group, "threshold": threshold} for group, threshold in asked],
    )


@st.composite
def policies(draw: st.DrawFn) -> tuple[Policy, Policy]:
    """A policy, and the same with one more deny rule."""
    # Everybody of the audience is there, so that every threshold can be reached.
    crowd = [f"{group}-{number}" for group in GROUPS for number in range(3)]
    persons = [
        {"id": name, "keys": [key_entry(approver_key(name))], "groups": sorted(groups)}
        for name, groups in draw(memberships).items()
    ] + [
        {"id": name, "keys": [key_entry(approver_key(name))], "groups": [name.partition("-")[0]]}
        for name in crowd
    ]
    deny = [{"id": f"deny-{number}", **draw(scopes())} for number in range(draw(st.integers(0, 2)))]
    document: dict[str, Any] = make_policy(
        approvers=persons,
        address_book={
            "known": [{"chain": "eip155:1", "address": "0xa", "label": "a"}],
        },
        governance={"approvals": [{"group": "desk", "threshold": 1}], "cool_down_s": 0},
        deny=deny,
        allow=[draw(allows(number)) for number in range(draw(st.integers(0, 4)))],
    )
    stricter = {**document, "deny": [*deny, {"id": "one-more", **draw(scopes())}]}
    return parse_policy(json.dumps(document).encode()), parse_policy(json.dumps(stricter).encode())


effects = st.builds(
    Effect,
    org=st.sampled_from(("acme", "other")),
    vault=st.just("hot"),
    key=st.sampled_from(("k1", "k2")),
    chain=st.sampled_from(CHAINS),
    kind=st.sampled_from(("evm_transfer", "evm_erc20_transfer")),
    asset=st.just("native"),
    destinations=st.tuples(st.sampled_from(PLACES)),
    amount=st.integers(0, 50),
    moved=st.just(0),
    fee_cap=st.just(0),
    needs_own_rule=st.booleans(),
    needs_listed_destination=st.booleans(),
)
pasts = st.tuples(st.integers(0, 50), st.integers(0, 4))


def ruling(policy: Policy, effect: Effect, names: set[str], past: tuple[int, int]) -> Ruling:
    return rule_on(policy, effect, frozenset(names), lambda _rule, _seconds: past, 1_800_000_000)


@settings(max_examples=300, deadline=None)
@given(policies(), effects, people, people, pasts)
def test_fewer_approvals_never_allow_more(
    pair: tuple[Policy, Policy], effect: Effect, some: set[str], more: set[str], past: tuple[int, int]
) -> None:
    few, many = ruling(pair[0], effect, some, past), ruling(pair[0], effect, some | more, past)
    assert few.rule == many.rule
    assert few.missing >= many.missing
    if few.verdict == "allow":
        assert many.verdict == "allow"


@settings(max_examples=300, deadline=None)
@given(policies(), effects, people, pasts)
def test_one_more_deny_rule_never_allows_more(
    pair: tuple[Policy, Policy], effect: Effect, names: set[str], past: tuple[int, int]
) -> None:
    plain, stricter = (ruling(policy, effect, names, past) for policy in pair)
    if stricter.verdict != "deny":
        assert stricter == plain


@settings(max_examples=300, deadline=None)
@given(demands, memberships, people)
def test_places_are_filled_as_well_as_they_can_be_and_nobody_twice(
    wanted: list[tuple[str, int]], groups: dict[str, set[str]], names: set[str]
) -> None:
    asked = tuple(Demand(group=group, threshold=threshold) for group, threshold in wanted)
    counts = seat(asked, {name: groups[name] for name in names})
    counted = [name for count in counts for name in count.counted]
    assert len(counted) == len(set(counted))
    assert all(count.group in groups[name] for count in counts for name in count.counted)
    places = [group for group, threshold in wanted for _ in range(threshold)]
    assert len(counted) == most_filled(places, [groups[name] for name in sorted(names)])


def most_filled(places: list[str], crowd: list[set[str]]) -> int:
    """Try every place for each person in turn, and none: slow and plainly right."""
    if not crowd:
        return 0
    most = most_filled(places, crowd[1:])
    for index, group in enumerate(places):
        if group in crowd[0] and group not in places[:index]:
            most = max(most, 1 + most_filled(places[:index] + places[index + 1 :], crowd[1:]))
    return most


@settings(max_examples=300, deadline=None)
@given(policies(), effects, people)
def test_the_platforms_copy_reaches_the_signers_verdict(
    pair: tuple[Policy, Policy], effect: Effect, names: set[str]
) -> None:
    policy = pair[0]
    facts = Facts(
        org=effect.org, vault=effect.vault, key=effect.key, chain=effect.chain, kind=effect.kind,
        asset=effect.asset, destination=effect.destinations[0], amount=effect.amount, fee_max=effect.fee_cap,
        initiator="maker", policy_version=policy.version, needs_own_rule=effect.needs_own_rule,
    )  # fmt: skip
    said = [Decision(approver=name, public_key="", word=Word.APPROVE, signature="") for name in names]
    verdict = evaluate(read_policy(view_policy(policy, ())), facts, said)
    plain = Effect(
        **{name: getattr(effect, name) for name in Effect.__slots__}
        | {"needs_listed_destination": False, "moved": effect.amount}
    )
    found = ruling(policy, plain, names, (0, 0))
    standing = {"allow": Standing.APPROVED, "wait": Standing.PENDING, "deny": Standing.DENIED}
    assert verdict.standing is standing[found.verdict]
    if found.verdict != "deny":
        assert (verdict.rule, verdict.missing) == (found.rule, found.missing)


@settings(max_examples=200, deadline=None)
@given(demands, memberships, people)
def test_both_sides_seat_people_alike(
    wanted: list[tuple[str, int]], groups: dict[str, set[str]], names: set[str]
) -> None:
    present = {name: groups[name] for name in names}
    ours = seat(tuple(Demand(group=group, threshold=threshold) for group, threshold in wanted), present)
    theirs = platform_seat(
        tuple(PlatformDemand(group=group, threshold=threshold) for group, threshold in wanted), present
    )
    assert [count.counted for count in ours] == [count.counted for count in theirs]
