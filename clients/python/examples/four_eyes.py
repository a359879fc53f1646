"""Correct a wallet's balance with two people: one proposes, another confirms. Wants CUSTODY_URL and each one's key."""

from __future__ import annotations

import os

from custody_client import models
from custody_client.client import Client, connect
from custody_client.transport import ApiError


def run(alice: Client, bob: Client, wallet: str, asset: str) -> str:
    """Returns the adjustment's final state."""
    proposed = alice.propose_adjustment(
        models.AdjustmentIn(
            wallet_id=wallet,
            direction="credit",
            asset=asset,
            amount="100",
            reason="goodwill",
            evidence="ticket 7421",
        )
    )
    note = models.NoteIn(note="Checked against the ticket.")
    try:
        alice.confirm_adjustment(proposed.id, note)
    except ApiError as refused:
        print(f"alice alone: {refused.code}")
    confirmed = bob.confirm_adjustment(proposed.id, note)
    print(f"{confirmed.id} is {confirmed.state}, confirmed by {confirmed.decided_by}")
    return confirmed.state


if __name__ == "__main__":
    run(
        connect(os.environ["CUSTODY_URL"], os.environ["ALICE_KEY"]),
        connect(os.environ["CUSTODY_URL"], os.environ["BOB_KEY"]),
        os.environ["CUSTODY_WALLET"],
        os.environ["CUSTODY_ASSET"],
    )
