"""The address book of the policy: named lists of addresses, each of which counts on its own chain only."""

from dataclasses import dataclass

from signer.policy.reading import label_of, list_of, name_of, record_of, word_of, wrong

LIST_MARK = "@"
"""Before the name of a list, in the destinations of a rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAddress:
    """One address that somebody has vouched for."""

    chain: str
    """CAIP-2 name."""
    address: str
    label: str
    """Whose it is, for people."""


AddressBook = dict[str, tuple[ListedAddress, ...]]
"""List name to its addresses."""


def parse_book(value: object) -> AddressBook:
    """Return the lists; raises StartupFault."""
    if not isinstance(value, dict):
        raise wrong("address_book must be an object of lists")
    return {name_of(name, "list name"): _parse_list(entries, name) for name, entries in value.items()}


def is_listed(book: AddressBook, wanted: str, chain: str, address: str) -> bool:
    """Tell whether `wanted`, an address or "@list", means this address on this chain."""
    if not wanted.startswith(LIST_MARK):
        return wanted == address
    return any((one.chain, one.address) == (chain, address) for one in book[wanted[len(LIST_MARK) :]])


def _parse_list(value: object, name: str) -> tuple[ListedAddress, ...]:
    entries = tuple(
        _parse_entry(one, f"address_book.{name}") for one in list_of(value, f"address_book.{name}")
    )
    if len({(one.chain, one.address) for one in entries}) != len(entries):
        raise wrong(f"address_book.{name}: one address is listed twice")
    return entries


def _parse_entry(value: object, place: str) -> ListedAddress:
    record = record_of(value, {"chain", "address", "label"}, place)
    return ListedAddress(
        chain=word_of(record["chain"], f"{place}.chain"),
        address=word_of(record["address"], f"{place}.address"),
        label=label_of(record["label"], f"{place}.label"),
    )
