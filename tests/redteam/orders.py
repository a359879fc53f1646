"""What the red team asks for in the name of the office's people."""

from __future__ import annotations

from typing import Any

from signer.protocol.messages import ChangePolicy, KeyView, Sign
from tests.fakes.policy_desk import ask_change
from tests.fakes.signer_desk import approved
from tests.fakes.signer_people import bind_evm, make_policy, make_transfer

QUORUM = ("alice", "bob")
TWO = [{"group": "treasury", "threshold": 2}]
RULES: Any = make_policy()["allow"]


def transfer(key: KeyView, at: int, nonce: int = 0, **changes: object) -> Sign:
    """A transfer on this nonce, approved by the quorum."""
    return approved(make_transfer(key, at, **changes), bind_evm(nonce), *QUORUM)


def change(document: bytes, *names: str, at: int, **changes: Any) -> ChangePolicy:
    """A change of the policy that these people approve."""
    return ask_change(document, *names, now=at, **changes)
