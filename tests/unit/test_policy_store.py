"""A policy goes into the database and comes out the same, also one that was kept before approvers had other kinds of key."""

from __future__ import annotations

import json
from dataclasses import replace

from custody.policy.model import ApproverKey, PasskeyTerms
from custody.policy.store import read_body, write_body
from tests.fakes.withdrawal_world import make_policy

PASSKEY = ApproverKey(
    algorithm="RS256",
    public_key="ab" * 256,
    passkey=PasskeyTerms(
        credential_id="AAAA", rp_id="localhost", origins=("http://localhost:1",), device_bound=False
    ),
)


def test_every_kind_of_key_comes_back() -> None:
    policy = make_policy()
    alice, *others = policy.approvers
    changed = replace(policy, approvers=(replace(alice, keys=(*alice.keys, PASSKEY)), *others))
    assert read_body(json.loads(json.dumps(write_body(changed)))) == changed


def test_a_policy_of_before_has_ed25519_keys() -> None:
    policy = make_policy()
    body = json.loads(json.dumps(write_body(policy)))
    for person in body["approvers"]:
        person["keys"] = [key["public_key"] for key in person["keys"]]
    assert read_body(body) == policy
