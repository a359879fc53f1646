#!/usr/bin/env python3
"""Check that a transfer is part of a sealed ledger: verify_proof.py PROOF.json PUBLIC_KEY_HEX

Needs Python 3.10 and `pip install cryptography`; reads no other file, talks to nobody. PUBLIC_KEY_HEX is the checkpoint key
as you learnt it from somewhere else than the proof. Ends with 0 and prints what was proved, or with 1 and says
what does not hold.
"""

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


def climb(text: str, path: list[list[str]]) -> bytes:
    node = sha256(b"\x00" + text.encode()).digest()
    for side, neighbour in path:
        demand(side in ("left", "right") and len(neighbour) == 64, "a step of a path has another form")
        other = bytes.fromhex(neighbour)
        node = sha256(b"\x01" + (other + node if side == "left" else node + other)).digest()
    return node


def demand(holds: object, otherwise: str) -> None:
    if not holds:
        sys.exit(f"NOT PROVED: {otherwise}")


def main(path: str, trusted: str) -> None:
    proof = json.loads(Path(path).read_text(encoding="utf-8"))
    demand(proof["format"] == "custody-inclusion-v1", "this is not an inclusion proof")
    transfer = fields(proof["transfer"], "ledger-transfer-v1", 19)
    batch = fields(proof["batch"], "ledger-batch-v1", 6)
    seals = [fields(text, "ledger-seal-v1", 10) for text in proof["seals"]]
    demand(
        climb(proof["transfer"], proof["transfer_path"]).hex() == batch[4], "the transfer is not in the batch"
    )
    demand(climb(proof["batch"], proof["batch_path"]).hex() == seals[0][7], "the batch is not in the seal")
    demand(transfer[0] == batch[0] == seals[0][0], "the parts belong to different tenants")
    for before, text, after in zip(seals, proof["seals"], seals[1:], strict=False):
        demand(after[8] == sha256(text.encode()).hexdigest(), "a seal does not follow the one before it")
        demand(after[0] == before[0] and int(after[1]) == int(before[1]) + 1, "the seals are not in order")
    head, signed = sha256(proof["seals"][-1].encode()).digest(), proof["checkpoint"]
    demand(signed["public_key"] == trusted.lower(), "the checkpoint is signed by another key than yours")
    demand(signed["sequence"] == int(seals[-1][1]), "the checkpoint is about another seal")
    message = (
        b"custody-checkpoint-v1\x00"
        + signed["org"].encode()
        + b"\x00"
        + signed["sequence"].to_bytes(8, "big")
        + head
    )
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(trusted))
        key.verify(bytes.fromhex(signed["signature"]), sha256(message).digest())
    except (InvalidSignature, ValueError):
        sys.exit("NOT PROVED: the signature does not verify")
    names = (
        "tenant",
        "id",
        "chain",
        "kind",
        "code",
        "reference",
        "debit",
        "credit",
        "posted",
        "pending",
        "target",
    )
    print(f"PROVED under checkpoint {signed['sequence']} of {signed['org']}")
    print("\n".join(f"{name:9} {value}" for name, value in zip(names, transfer, strict=False)))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2])
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        sys.exit(f"NOT PROVED: the proof is malformed ({type(error).__name__})")
