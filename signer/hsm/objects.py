"""The signer's own objects in the token: the key that authenticates the journal, and the anchor's data objects."""

from typing import Any

from pkcs11 import Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass

from signer.hsm.sessions import SessionPool, Slot
from signer.refusal import EvidenceFault, HsmFault

MAC_LABEL = "custody-journal-mac"
MAC_ID = b"custody-mac-v1\x00\x00"
ANCHOR_APPLICATION = "custody-anchor"

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
        with pool.record_slot() as slot, pool.objects:
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
            _mac_key(slot, pool)

    def __call__(self, message: bytes) -> bytes:
        """Return the 32-byte MAC; raises HsmFault."""
        with self._pool.record_slot() as slot:
            return bytes(_mac_key(slot, self._pool).sign(message, mechanism=Mechanism.SHA256_HMAC))


_MAC_SEARCH = {Attribute.CLASS: ObjectClass.SECRET_KEY, Attribute.ID: MAC_ID}


def _mac_key(slot: Slot, pool: SessionPool) -> Any:
    handle = slot.handles.get(MAC_ID)
    if handle is None:
        with pool.objects:
            handle = slot.session.get_key(ObjectClass.SECRET_KEY, id=MAC_ID)
        for attribute in (Attribute.LOCAL, Attribute.ALWAYS_SENSITIVE, Attribute.NEVER_EXTRACTABLE):
            if handle[attribute] is not True:
                raise HsmFault(f"the journal's key has the wrong {attribute.name}")
        slot.handles[MAC_ID] = handle
    return handle


class AnchorObject:
    """The anchor's places as private data objects, their text in CKA_LABEL: of a data object the one attribute that
    SoftHSM lets change, at a twentieth of what a new object costs. Safe for concurrent use.
    """

    def __init__(self, pool: SessionPool) -> None:
        self._pool = pool

    def read(self, place: int) -> str:
        """Return the place's text as it stands in the token now, or ""; raises HsmFault or EvidenceFault."""
        with self._pool.record_slot() as slot:
            found = self._find(slot, place)
            return "" if found is None else str(found[Attribute.LABEL])

    def write(self, place: int, text: str) -> None:
        """Replace the place's text; raises HsmFault or EvidenceFault."""
        with self._pool.record_slot() as slot:
            found = self._find(slot, place)
            if found is not None:
                found[Attribute.LABEL] = text
                return
            with self._pool.objects:
                template = {Attribute.TOKEN: True, Attribute.PRIVATE: True, Attribute.LABEL: text}
                slot.session.create_object({**_anchor_search(place), **template})
            # Of two processes that create it at once, the one that looks last finds two.
            self._find(slot, place)

    def _find(self, slot: Slot, place: int) -> Any:
        """Return the handle of the place's object, or None. A handle stays good while its object stands."""
        name = b"anchor %d" % place
        handle = slot.handles.get(name)
        if handle is None:
            with self._pool.objects:
                found = list(slot.session.get_objects(_anchor_search(place)))
            if len(found) > 1:
                raise EvidenceFault("two anchors stand in one place of the token")
            if not found:
                return None
            handle = slot.handles[name] = found[0]
        return handle


def _anchor_search(place: int) -> dict[Attribute, Any]:
    return {
        Attribute.CLASS: ObjectClass.DATA,
        Attribute.APPLICATION: ANCHOR_APPLICATION,
        Attribute.OBJECT_ID: bytes([place]),
    }
