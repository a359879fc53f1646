#!/usr/bin/env python3
"""Check a proof of a ledger's keeper: verify_proof.py PROOF.json TRUSTED_HEX

That a transfer is part of the sealed ledger: TRUSTED_HEX is the public checkpoint key. That your balance is counted in what is
owed to all: TRUSTED_HEX is the root that was published for everybody. Learn it from somewhere else than the proof. Needs Python
3.10 and `pip install cryptography`; reads no other file, talks to nobody. Ends with 0 and prints what was proved, or with 1 and
says what does not hold. How to check a seal's hash on Stellar is in proofs.md.
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


def liability(proof: dict, root: str) -> None:
    """Every part is a leaf of its own under the root, all sums are sums of what is not below zero, the parts make the balance."""
    wallet, leaves = bytes.fromhex(proof["wallet"].replace("-", "")), set()
    for part in proof["parts"]:
        amounts = [int(part["amount"]), *(int(amount) for _, _, amount in part["path"])]
        demand(min(amounts) >= 0 and sum(amounts) < 2**256, "an amount is out of range")
        owner = sha256(bytes.fromhex(part["salt"]) + wallet).digest()
        total = amounts[0]
        node = sha256(b"\x00" + owner + total.to_bytes(32, "big")).digest()
        leaves.add(node)
        for side, neighbour, amount in part["path"]:
            demand(side in ("left", "right") and len(neighbour) == 64, "a step of a path has another form")
            mine = node + total.to_bytes(32, "big")
            other = bytes.fromhex(neighbour) + int(amount).to_bytes(32, "big")
            node = sha256(b"\x01" + (other + mine if side == "left" else mine + other)).digest()
            total += int(amount)
        demand(node.hex() == root == proof["root"], "a part does not lead to the root that you know")
        demand(total == int(proof["total"]), "a part leads to another total")
    demand(0 < len(leaves) == len(proof["parts"]), "a part is counted twice, or there is none")
    demand(
        sum(int(part["amount"]) for part in proof["parts"]) == int(proof["balance"]),
        "the parts make another balance",
    )
    print(f"PROVED at checkpoint {proof['sequence']}: {proof['asset']}")
    print(f"wallet    {wallet.hex()}\nbalance   {int(proof['balance'])}\nof all    {int(proof['total'])}")


def inclusion(proof: dict, trusted: str) -> None:
    """The transfer is in the batch, the batch in the first seal, each seal in the next, and the last is signed."""
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
    demand(signed["public_key"] == trusted, "the checkpoint is signed by another key than yours")
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
        found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
        check = {"custody-inclusion-v1": inclusion, "custody-liability-v1": liability}.get(found["format"])
        demand(check, "this is a proof of no known kind")
        check(found, sys.argv[2].lower())
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        sys.exit(f"NOT PROVED: the proof is malformed ({type(error).__name__})")
