"""How a ceremony ends early."""


class CeremonyFault(Exception):
    """The ceremony cannot go on. `str()` is one sentence for the people in the room."""
