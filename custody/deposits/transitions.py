"""The legal moves of a deposit, of its case, and of a request for a vault, as data."""

from __future__ import annotations

from custody.kernel.transitions import Transition, TransitionTable

DEPOSITS = TransitionTable(
    "deposit",
    "observed",
    (
        # Its block is final and a wallet is named: the ledger credits the wallet.
        Transition("observed", "credit", "credited"),
        # Its block is final and no wallet can be credited: the ledger credits suspense, its case waits for a person.
        Transition("observed", "suspend", "suspended"),
        # Its block is final and its asset is not listed: nothing can be booked, its case waits for the asset or a person.
        Transition("observed", "set_aside", "unlisted"),
        # Its asset is listed now: it is decided about like any other.
        Transition("unlisted", "list", "observed"),
        # A person named the wallet: suspense pays it.
        Transition("suspended", "assign", "credited"),
        # It was paid back to where it came from.
        Transition("suspended", "return", "returned"),
        # Its block was replaced before it was final; nothing was booked.
        Transition("observed", "orphan", "orphaned"),
        # The same for an asset that is not listed.
        Transition("unlisted", "orphan", "orphaned"),
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

DEPOSIT_CASES = TransitionTable(
    "deposit_case",
    "open",
    (
        # By rule: dust, and tokens that anybody can send. It stays out of the queue until a person looks for it.
        Transition("open", "ignore", "ignored"),
        # A person named the wallet that it belongs to.
        Transition("open", "assign", "assigned"),
        # The same for one that a rule had put aside.
        Transition("ignored", "assign", "assigned"),
        # A withdrawal to where the money came from is asked for; approvers decide about it.
        Transition("open", "return", "returning"),
        # The same for one that a rule had put aside.
        Transition("ignored", "return", "returning"),
        # That withdrawal is final on chain.
        Transition("returning", "settle", "returned"),
        # That withdrawal ended without paying: rejected, expired, cancelled or failed.
        Transition("returning", "reopen", "open"),
        # A person wants nothing done; only where nothing is in the books, for money is always somebody's.
        Transition("open", "dismiss", "dismissed"),
        # The same for one that a rule had put aside.
        Transition("ignored", "dismiss", "dismissed"),
        # The asset is listed now: the deposit is decided about anew.
        Transition("open", "list", "listed"),
        # The same for one that a rule had put aside.
        Transition("ignored", "list", "listed"),
        # The chain took the deposit back.
        Transition("open", "orphan", "orphaned"),
        # The same for one that a rule had put aside.
        Transition("ignored", "orphan", "orphaned"),
        # The same after a person had named a wallet: the wallet's credit was mirrored as well.
        Transition("assigned", "orphan", "orphaned"),
        # The same for one that a person had dismissed.
        Transition("dismissed", "orphan", "orphaned"),
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
