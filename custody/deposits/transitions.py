"""The legal moves of a deposit and of a request for a vault, as data."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

DEPOSITS = TransitionTable(
    "deposit",
    "observed",
    (
        # Its block is final and a wallet is named: the ledger credits the wallet.
        Transition("observed", "credit", "credited"),
        # Its block is final and nobody can be named: the ledger credits suspense, a person decides later.
        Transition("observed", "suspend", "suspended"),
        # Its block was replaced before it was final; nothing was booked.
        Transition("observed", "orphan", "orphaned"),
        # Its block was replaced although it was final to us: the credit is mirrored.
        Transition("credited", "reverse", "reversed"),
        # The same for money in suspense.
        Transition("suspended", "reverse", "reversed"),
        # The transaction is in another block: the same deposit, counted as its next inclusion.
        Transition("orphaned", "include", "observed"),
        # The same after a mirrored credit; the next credit is a posting of its own.
        Transition("reversed", "include", "observed"),
    ),
)

VAULT_REQUESTS = TransitionTable(
    "vault_request",
    "requested",
    (
        # The key was born in the HSM and the vault is recorded.
        Transition("requested", "create", "created"),
    ),
)
