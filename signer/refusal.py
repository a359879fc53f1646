"""The ways in which the signer says no: a refusal to a caller, faults that end a start, and an HSM that
fails.
"""


class Refusal(Exception):
    """A request is refused. `code` is one of SPEC.md section 5; `text` is one sentence without internals."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(code)
        self.code = code
        self.text = text


class StartupFault(Exception):
    """The process must not start. `str()` is one sentence that says what to install or fix."""


class EvidenceFault(Exception):
    """Journal, anchor or policy do not agree: something was rolled back, cut or edited. Never repaired here."""


class HsmFault(Exception):
    """The HSM failed or answered something unusable. Nothing of its own text goes further than the log."""


class KeyFault(HsmFault):
    """A key in the HSM, or its wrapped bytes, is not what it must be. It signs nothing until a person has looked."""
