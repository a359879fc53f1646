"""Run by a test as a process of its own: what somebody tries who has the token and its PIN, but not the signer's process.

Prints one line for each attempt: its name, and what the token said.
"""

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

from signer.hsm.module import find_token
from signer.hsm.sessions import SessionPool
from tests.integration.test_signer_key_profile import generate, import_seed


def attempts_on(session: Any, key: Any) -> dict[str, Callable[[], object]]:
    """Ways to have a key's value, or to make it one that has a way out."""
    kek = session.generate_key(KeyType.AES, 256, capabilities=pkcs11.MechanismFlag.WRAP)
    changes = {
        "EXTRACTABLE": True, "SENSITIVE": False, "MODIFIABLE": True, "COPYABLE": True, "DESTROYABLE": True,
        "DERIVE": True, "DECRYPT": True, "UNWRAP": True, "ID": secrets.token_bytes(16), "LABEL": "other",
        "WRAP_WITH_TRUSTED": False,
    }  # fmt: skip

    def setting(name: str) -> Callable[[], object]:
        return lambda: key.__setitem__(Attribute[name], changes[name])

    return {
        "read": lambda: key[Attribute.VALUE],
        "copy": lambda: key.copy({Attribute.ID: secrets.token_bytes(16)}),
        "copy extractable": lambda: key.copy({Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False}),
        "wrap": lambda: kek.wrap_key(key, mechanism=Mechanism.AES_KEY_WRAP),
        "destroy": key.destroy,
        **{f"set {name}": setting(name) for name in changes},
    }


def run(action: str, pool: SessionPool, key_id: bytes) -> None:
    match action:
        case "plant sound":
            generate(pool, key_id)
        case "plant extractable":
            generate(pool, key_id, EXTRACTABLE=True)
        case "plant imported":
            print(import_seed(pool, key_id, secrets.token_bytes(32)).hex())
        case "change":
            with pool.slot() as slot, pool.objects:
                key = slot.session.get_key(ObjectClass.PRIVATE_KEY, id=key_id)
                for name, attempt in attempts_on(slot.session, key).items():
                    try:
                        attempt()
                    except pkcs11.PKCS11Error as error:
                        print(f"{name}: {type(error).__name__}")
                    else:
                        print(f"{name}: done")


if __name__ == "__main__":
    module, pin, what, key = sys.argv[1:]
    run(what, SessionPool(find_token(Path(module), "", "custody"), pin, 1), bytes.fromhex(key))
