"""The next policy, and asking a signer to take it: what tests of a policy's life start from."""

from typing import Any

import pytest

from signer.decide import Decider
from signer.protocol import canonical, governance
from signer.protocol.messages import ChangePolicy, Explain
from signer.refusal import Refusal
from tests.fakes.signer_desk import make_key
from tests.fakes.signer_hsm import START
from tests.fakes.signer_people import (
    approve,
    approver_key,
    key_entry,
    make_change,
    make_policy,
    make_transfer,
    policy_bytes,
)


def people(*names: str) -> list[dict[str, object]]:
    """These approvers, all of the treasury."""
    return [{"id": name, "keys": [key_entry(approver_key(name))], "groups": ["treasury"]} for name in names]


def next_policy(**changes: object) -> bytes:
    """The next document; by default it forbids everything."""
    return policy_bytes(make_policy(**{"version": 2, "allow": [], **changes}))


def ask_change(document: bytes, *names: str, now: int = START, **changes: Any) -> ChangePolicy:
    """The request to put this document in force, approved by these people."""
    data = governance.encode(make_change(document, now, **changes))
    return ChangePolicy(intent=data, document=document, approvals=approve(data, *names))


def change_code(decider: Decider, request: ChangePolicy) -> str:
    """The code with which a change is refused."""
    with pytest.raises(Refusal) as caught:
        decider.change_policy(request)
    return caught.value.code


def transfer_code(decider: Decider, version: int = 1, *names: str, set_version: int = 1) -> str:
    """What a transfer under this policy version gets: "" for a signature."""
    key = make_key(decider)
    data = canonical.encode(make_transfer(key, START, policy_version=version, expires_at=START + 10**6))
    votes = approve(data, *(names or ("alice", "bob")), version=set_version)
    told = decider.explain(Explain(intent=data, approvals=votes))
    return "" if told.verdict == "allow" else told.code
