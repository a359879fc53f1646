"""The signer's own objects in the token: the key that authenticates the journal, and the anchor's data
object.
"""

from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from signer.hsm.sessions import SessionPool, Slot
from signer.refusal import HsmFault

MAC_LABEL = "custody-journal-mac"
MAC_ID = b"custody-mac-v1\x00\x00"
ANCHOR_LABEL = "custody-anchor"

_MAC_PROFILE = {
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.COPYABLE: False,
    Attribute.DESTROYABLE: False,
}


class MacKey:
    """HMAC-SHA256 under a key that exists only in the token. Created at the first start. Safe for concurrent
    use.
    """

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool
        with pool.slot() as slot, pool.objects:
            if not list(slot.session.get_objects(_MAC_SEARCH)):
                slot.session.generate_key(
                    KeyType.GENERIC_SECRET,
                    256,
                    id=MAC_ID,
                    label=MAC_LABEL,
                    store=True,
                    mechanism=Mechanism.GENERIC_SECRET_KEY_GEN,
                    capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY,
                    template=_MAC_PROFILE,
                )
            _mac_key(slot)

    def __call__(self, message: bytes) -> bytes:
        """Return the 32-byte MAC; raises HsmFault."""
        with self._pool.slot() as slot:
            with self._pool.objects:
                key = _mac_key(slot)
            return bytes(key.sign(message, mechanism=Mechanism.SHA256_HMAC))


_MAC_SEARCH = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: MAC_ID}


def _mac_key(slot: Slot) -> Any:
    handle = slot.handles.get(MAC_ID)
    if handle is None:
        handle = slot.session.get_key(ObjectClass.SECRET_KEY, id=MAC_ID)
        for attribute in (Attribute.LOCAL, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE):
            if handle[attribute] is not True:
                raise HsmFault(f"the journal's key has the wrong {attribute.name}")
        slot.handles[MAC_ID] = handle
    return handle


_ANCHOR_SEARCH = {Attribute.CLASS: ObjectClass.DATA, Attribute.LABEL: ANCHOR_LABEL}


class AnchorObject:
    """The anchor's bytes as a private data object. Tokens refuse a change in place, so it is replaced."""

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    def read(self) -> list[bytes]:
        """Return the values of all anchor objects; raises HsmFault."""
        with self._pool.slot() as slot, self._pool.objects:
            return [bytes(found[Attribute.VALUE]) for found in slot.session.get_objects(_ANCHOR_SEARCH)]

    def replace(self, value: bytes) -> None:
        """Create an anchor object with this value, then destroy the others; raises HsmFault."""
        with self._pool.slot() as slot, self._pool.objects:
            old = list(slot.session.get_objects(_ANCHOR_SEARCH))
            slot.session.create_object(
                {
                    **_ANCHOR_SEARCH,
                    Attribute.TOKEN: True,
                    Attribute.PRIVATE: True,
                    Attribute.MODIFIABLE: False,
                    Attribute.VALUE: value,
                }
            )
            for stale in old:
                stale.destroy()
