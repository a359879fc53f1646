"""Both trees: every leaf's proof holds, anything else fails, and sums are sums."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from custody.kernel.money import MAX_ATOMIC
from custody.ledger.leaves import leaf_hash, root
from custody.seals import liabilities, tree
from custody.seals.errors import NegativeBalance, NotInTree
from custody.seals.liabilities import LiabilityTree, SumNode, cut, verify
from custody.seals.pages import LeafMissing, PagedTree, Top, cut_pages, find_pages

LEAVES = st.lists(st.binary(max_size=4), min_size=1, max_size=70).map(
    lambda made: [leaf_hash(one) for one in made]
)
SECRET = sha256(b"secret").digest()
BALANCES = st.dictionaries(st.uuids(), st.integers(0, 2**70), min_size=1, max_size=20).filter(
    lambda made: any(made.values())
)


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, as it is written there."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + recursive_root(leaves[:split]) + recursive_root(leaves[split:])).digest()


@given(leaves=LEAVES)
def test_each_leaf_leads_to_the_root_of_the_rfc(leaves: list[bytes]) -> None:
    assert root(leaves) == recursive_root(leaves)
    for index, leaf in enumerate(leaves):
        assert tree.climb(leaf, tree.path(leaves, index)) == root(leaves)
        assert len(tree.path(leaves, index)) <= (len(leaves) - 1).bit_length()


@given(leaves=LEAVES, data=st.data())
def test_any_other_leaf_or_path_leads_elsewhere(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    steps = tree.path(leaves, index)
    other = data.draw(st.binary(min_size=32, max_size=32).filter(lambda one: one != leaves[index]))
    assert tree.climb(other, steps) != root(leaves)
    if steps:
        at = data.draw(st.integers(0, len(steps) - 1))
        side, neighbour = steps[at]
        flipped = bytes([neighbour[0] ^ 1]) + neighbour[1:]
        assert tree.climb(leaves[index], (*steps[:at], (side, flipped), *steps[at + 1 :])) != root(leaves)
        assert tree.climb(leaves[index], (*steps[:at], *steps[at + 1 :])) != root(leaves)


def test_there_is_no_path_for_a_leaf_that_is_not_there() -> None:
    for index in (-1, 1):
        with pytest.raises(IndexError):
            tree.path([leaf_hash(b"")], index)


@settings(max_examples=50)
@given(balances=BALANCES)
def test_every_wallet_proves_its_balance_and_the_total_is_the_sum(balances: dict[UUID, int]) -> None:
    made = LiabilityTree(balances, SECRET)
    assert made.root.total == sum(balances.values())
    assert made.wallets == sum(1 for balance in balances.values() if balance)
    for wallet, balance in balances.items():
        if balance:
            assert verify(made.root, wallet, balance, made.prove(wallet))
        else:
            with pytest.raises(NotInTree):
                made.prove(wallet)


@settings(max_examples=50)
@given(balances=BALANCES, data=st.data())
def test_no_other_claim_is_proved(balances: dict[UUID, int], data: st.DataObject) -> None:
    made = LiabilityTree(balances, SECRET)
    wallet = data.draw(st.sampled_from([one for one, balance in balances.items() if balance]))
    balance, proofs = balances[wallet], made.prove(wallet)
    assert not verify(made.root, wallet, balance + 1, proofs)
    assert not verify(made.root, wallet, balance - 1, proofs)
    assert not verify(made.root, UUID(int=wallet.int ^ 1), balance, proofs)
    assert not verify(made.root, wallet, 0, ())
    assert not verify(SumNode(hash=made.root.hash, total=made.root.total + 1), wallet, balance, proofs)
    assert not verify(
        made.root,
        wallet,
        sum(part.amount for part in proofs[1:]) + proofs[1].amount,
        (proofs[1], *proofs[1:]),
    )
    more = replace(proofs[0], amount=proofs[0].amount + 1)
    assert not verify(made.root, wallet, balance + 1, (more, *proofs[1:]))
    salted = replace(proofs[0], salt=bytes(32))
    assert not verify(made.root, wallet, balance, (salted, *proofs[1:]))


def test_sums_below_zero_or_past_the_width_prove_nothing() -> None:
    """The classic trick: a leaf below zero makes the total look smaller than what is owed."""
    wallet, other = UUID(int=1), UUID(int=2)
    salt = bytes(32)
    mine = liabilities.leaf_node(wallet, salt, 100)
    for total in (-60, MAX_ATOMIC):
        theirs = SumNode(hash=sha256(other.bytes).digest(), total=total)
        part = liabilities.PartProof(salt=salt, amount=100, steps=(("right", theirs),))
        assert not verify(SumNode(hash=mine.hash, total=100 + total), wallet, 100, [part])


@given(balances=BALANCES)
@settings(max_examples=25)
def test_proofs_of_different_wallets_share_no_salt_and_name_nobody(balances: dict[UUID, int]) -> None:
    made = LiabilityTree(balances, SECRET)
    for wallet, balance in balances.items():
        if not balance:
            continue
        salts = {part.salt for part in made.prove(wallet)}
        others = {
            part.salt
            for other, owed in balances.items()
            if owed and other != wallet
            for part in made.prove(other)
        }
        assert salts.isdisjoint(others)
        shown = {node.hash for part in made.prove(wallet) for _, node in part.steps}
        assert not any(sha256(other.bytes).digest() in shown for other in balances)


def test_another_secret_makes_another_tree() -> None:
    balances = {UUID(int=n): 100 for n in range(1, 9)}
    first, second = (LiabilityTree(balances, sha256(name).digest()) for name in (b"a", b"b"))
    assert first.root.hash != second.root.hash
    assert first.root.total == second.root.total == 800
    assert first.prove(UUID(int=1)) == LiabilityTree(balances, sha256(b"a").digest()).prove(UUID(int=1))


def test_a_wallet_below_zero_and_an_empty_ledger_make_no_tree() -> None:
    with pytest.raises(NegativeBalance):
        LiabilityTree({UUID(int=1): 5, UUID(int=2): -1}, SECRET)
    with pytest.raises(ValueError, match="nothing is owed"):
        LiabilityTree({UUID(int=1): 0}, SECRET)


@given(balances=BALANCES, size=st.sampled_from([1, 2, 4, 16, 512]))
def test_pages_give_the_same_proofs_as_the_whole_tree(balances: dict[UUID, int], size: int) -> None:
    tree_of_all = LiabilityTree(balances, SECRET)
    pages = cut_pages(tree_of_all, size)
    tops = [Top(first=page.first, node=page.top) for page in pages]
    for wallet, balance in balances.items():
        if balance:
            leaves = cut(wallet, balance, SECRET)
            read = {number: pages[number].leaves for number in find_pages(leaves, tops)}
            assert PagedTree(tops, read).prove(leaves) == tree_of_all.prove(wallet)


@given(balances=BALANCES, other=st.integers(1, 2**70), data=st.data())
def test_a_balance_that_is_not_in_the_pages_has_no_proof(
    balances: dict[UUID, int], other: int, data: st.DataObject
) -> None:
    wallet = data.draw(st.sampled_from(sorted(balances)))
    pages = cut_pages(LiabilityTree(balances, SECRET), 4)
    tops = [Top(first=page.first, node=page.top) for page in pages]
    leaves = cut(wallet, balances[wallet] + other, SECRET)
    with pytest.raises(LeafMissing):
        PagedTree(tops, {page.number: page.leaves for page in pages}).prove(leaves)
