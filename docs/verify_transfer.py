#!/usr/bin/env python3
"""Check that a transfer is part of a sealed ledger: verify_transfer.py PROOF.json CHECKPOINT_KEY_HEX

Learn the key from somewhere else than the proof. Needs `pip install cryptography`. Ends with 0 and what was proved, or with 1."""

import json
import sys
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def fields(text: str, mark: str, count: int) -> list[str]:
    parts = text.split("|")
    demand(parts[0] == mark and len(parts) == count + 1, f"this is not an encoding {mark}")
    return parts[1:]


def climb(text: str, path: list[list[str]]) -> str:
    node = sha256(b"\x00" + text.encode()).digest()
    for side, neighbour in path:
        demand(side in ("left", "right") and len(neighbour) == 64, "a step of a path has another form")
        other = bytes.fromhex(neighbour)
        node = sha256(b"\x01" + (other + node if side == "left" else node + other)).digest()
    return node.hex()


def demand(holds: object, otherwise: str) -> None:
    if not holds:
        sys.exit(f"NOT PROVED: {otherwise}")


def check(proof: dict, trusted: str) -> None:
    """The transfer is in the batch, the batch in the first seal, each seal in the next, and the last is signed."""
    demand(proof["format"] == "custody-inclusion-v1", "this is a proof of another kind")
    transfer = fields(proof["transfer"], "ledger-transfer-v1", 19)
    batch = fields(proof["batch"], "ledger-batch-v1", 6)
    seals = [fields(text, "ledger-seal-v1", 10) for text in proof["seals"]]
    demand(climb(proof["transfer"], proof["transfer_path"]) == batch[4], "the transfer is not in the batch")
    demand(climb(proof["batch"], proof["batch_path"]) == seals[0][7], "the batch is not in the seal")
    demand(transfer[0] == batch[0] == seals[0][0], "the parts belong to different tenants")
    for before, text, after in zip(seals, proof["seals"], seals[1:], strict=False):
        demand(after[8] == sha256(text.encode()).hexdigest(), "a seal does not follow the one before it")
        demand(after[0] == before[0] and int(after[1]) == int(before[1]) + 1, "the seals are not in order")
    signed, head = proof["checkpoint"], sha256(proof["seals"][-1].encode()).digest()
    demand(signed["public_key"] == trusted, "the checkpoint is signed by another key than yours")
    demand(signed["sequence"] == int(seals[-1][1]), "the checkpoint is about another seal")
    message = (
        b"custody-checkpoint-v1\0"
        + signed["org"].encode()
        + b"\0"
        + signed["sequence"].to_bytes(8, "big")
        + head
    )
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted))
    key.verify(bytes.fromhex(signed["signature"]), sha256(message).digest())
    print(f"PROVED under checkpoint {signed['sequence']} of {signed['org']}")
    names = "tenant id chain kind code reference debit credit posted pending target"
    print("\n".join(f"{name:9} {value}" for name, value in zip(names.split(), transfer, strict=False)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2].lower())
    except InvalidSignature:
        sys.exit("NOT PROVED: the signature does not verify")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        sys.exit(f"NOT PROVED: the proof is malformed ({type(error).__name__})")
