"""The signer's own decisions on a software token, behind the port that sealing asks."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

from custody.kernel.ids import TenantId
from custody.signing.errors import SignerRefused, SignerUnreachable
from custody.signing.intent_fields import org_name
from custody.signing.model import CheckpointSignature
from signer.protocol.messages import CreateKey, SignCheckpoint
from signer.refusal import Refusal
from tests.fakes.signer_desk import Desk
from tests.fakes.signer_hsm import FakeToken
from tests.fakes.signer_people import make_policy


class CheckpointDesk:
    """Signs like the process does, and is out of reach while `away`."""

    def __init__(self, directory: Path) -> None:
        self._desk = Desk(directory=directory, token=FakeToken(), policy=make_policy())
        self._decider = self._desk.start()
        self.away = False
        self.asked: list[int] = []

    async def checkpoint_key(self, *, request_id: UUID, tenant: TenantId) -> str:
        self._reach()
        asked = CreateKey(
            request_id=str(request_id), org=org_name(tenant), vault="checkpoints", curve="ed25519", label="c"
        )
        return self._decider.keyring.create_key(asked).key_id

    async def find_checkpoint_key(self, tenant: TenantId, key_id: str) -> bytes | None:
        self._reach()
        try:
            view = self._decider.keyring.public_key(key_id)
        except Refusal:
            return None
        return bytes.fromhex(view.public_key) if view.org == org_name(tenant) else None

    async def sign_checkpoint(
        self, *, tenant: TenantId, key_id: str, sequence: int, seal_hash: bytes
    ) -> CheckpointSignature:
        self._reach()
        self.asked.append(sequence)
        request = SignCheckpoint(key_id=key_id, org=org_name(tenant), sequence=sequence, hash=seal_hash)
        try:
            signed = self._decider.sign_checkpoint(request)
        except Refusal as refusal:
            raise SignerRefused(reason=refusal.code, text=refusal.text) from refusal
        public_key = bytes.fromhex(signed.public_key)
        return CheckpointSignature(key_id=key_id, public_key=public_key, signature=signed.signature)

    def close(self) -> None:
        if self._desk.record is not None:
            self._desk.record.close()

    def _reach(self) -> None:
        if self.away:
            raise SignerUnreachable(cause="away")
