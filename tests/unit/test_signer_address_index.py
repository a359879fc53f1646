"""The index of keys by address: it finds what a walk over all keys finds, also keys that came after it was first asked."""

from hypothesis import given, settings
from hypothesis import strategies as st

from signer.address_index import AddressIndex


@settings(max_examples=100, deadline=None)
@given(places=st.lists(st.sampled_from("abcd"), max_size=12), asked=st.lists(st.integers(0, 12), max_size=4))
def test_it_finds_what_a_walk_finds(places: list[str], asked: list[int]) -> None:
    index = AddressIndex()
    ids = [str(number) for number in range(len(places))]
    for count in [*sorted(asked), len(places)]:
        known = ids[:count]
        for address in "abcde":
            walked = tuple(one for one in known if places[int(one)] == address)
            assert index.find(known, lambda one: places[int(one)], address) == walked


def test_it_asks_for_each_address_once() -> None:
    index, asked = AddressIndex(), list[str]()

    def address_of(key_id: str) -> str:
        asked.append(key_id)
        return "a"

    index.find(["1"], address_of, "a")
    assert index.find(["1", "2"], address_of, "a") == ("1", "2")
    assert asked == ["1", "2"]
