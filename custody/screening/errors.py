"""What the list of refused addresses refuses itself."""

from __future__ import annotations

from custody.kernel.errors import Conflict, InvalidInput


class NotRefusedNow(Conflict):
    """Only what the list names can be taken back."""

    code = "address_not_refused"
    public = "The list does not refuse this address."


class BadListEntry(InvalidInput):
    """A source is missing, or words are longer than a row keeps."""

    code = "bad_list_entry"
    public = "An entry needs a source of up to 200 characters and a note of up to 500."
