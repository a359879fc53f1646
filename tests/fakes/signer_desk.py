"""A signer at its desk: decisions on a software token, with a death and a restart whenever a test wants one."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from signer.decide import Decider
from signer.journal import FILE_NAME
from signer.protocol import canonical
from signer.protocol.approvals import Approval
from signer.protocol.intent import Intent
from signer.protocol.messages import Binding, CreateKey, KeyView, Sign
from signer.record import Record
from signer.refusal import Refusal
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_people import (
    approve,
    bind_evm,
    bind_stellar,
    make_anchor,
    make_erc20,
    make_payment,
    make_transfer,
    make_trust,
    policy_bytes,
)


@dataclass
class Desk:
    """A signer that can die and start again on the same token and journal."""

    directory: Path
    token: FakeToken
    policy: dict[str, object] | None
    """What the policy file holds; None for no file."""
    record: Record | None = None

    def start(self) -> Decider:
        if self.record is not None:
            self.record.close()
            self.record = None
        self.token.crash_at = 0
        self.record = Record.open(
            directory=self.directory,
            mac=self.token.mac,
            store=self.token,
            policy=None if self.policy is None else policy_bytes(self.policy),
            clock=self.token.clock,
        )
        self.token.calls.clear()
        return Decider(self.record, self.token)

    def lines(self) -> list[bytes]:
        """The journal as it is on disk."""
        path = self.directory / FILE_NAME
        return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def make_key(decider: Decider, curve: str = "secp256k1", org: str = "acme", vault: str = "hot") -> KeyView:
    name = f"make-{curve}-{org}-{vault}"
    return decider.keyring.create_key(
        CreateKey(request_id=name, org=org, vault=vault, curve=curve, label="one")
    )


def request(intent: Intent, approvals: tuple[Approval, ...], binding: Binding) -> Sign:
    return Sign(intent=canonical.encode(intent), approvals=approvals, binding=binding)


def approved(intent: Intent, binding: Binding, *names: str) -> Sign:
    data = canonical.encode(intent)
    return Sign(intent=data, approvals=approve(data, *(names or ("alice", "bob"))), binding=binding)


def code_of(decider: Decider, asked: Sign) -> str:
    with pytest.raises(Refusal) as caught:
        decider.sign(asked)
    return caught.value.code


KINDS = ("payment", "trust", "anchor", "transfer", "erc20")
_STELLAR = {"payment": make_payment, "trust": make_trust, "anchor": make_anchor}


def make_request(decider: Decider, kind: str) -> Sign:
    if kind in _STELLAR:
        key = make_key(decider, "ed25519")
        intent = _STELLAR[kind](key, START)
        return approved(intent, bind_stellar(intent, 1))
    key = make_key(decider)
    return approved(make_transfer(key, START) if kind == "transfer" else make_erc20(key, START), bind_evm(0))
