"""What the address book refuses."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput, NotFound, Refused


class UnknownEntry(NotFound):
    """No such entry of this tenant."""

    code = "unknown_address_entry"
    public = "No such entry in the address book."


class EntryExistsDifferent(Conflict):
    """The id is taken by an entry of other content."""

    code = "address_entry_exists_different"
    public = "An entry with this id exists and differs."


class BadLabel(InvalidInput):
    """A label is 1 to 200 characters."""

    code = "bad_label"
    public = "A label has 1 to 200 characters."


class OwnProposal(Refused):
    """Whoever proposed an entry cannot be the second person."""

    code = "own_proposal"
    public = "Somebody else has to confirm what you proposed."


class EntryDecided(Conflict):
    """The entry is confirmed or removed already."""

    code = "address_entry_decided"
    public = "The entry is not in a state for this."


class DestinationNotListed(Refused):
    """The vault or the wallet pays to entries of the address book only, and none that counts has this address and memo."""

    code = "destination_not_listed"
    public = "This vault or wallet pays only to addresses of the address book."
