#!/usr/bin/env python3
"""Check that your balance is counted in what is owed to all: verify_balance.py PROOF.json PUBLISHED_ROOT_HEX

Take the root as it was published for all, not from the proof. Needs Python alone. Ends with 0 and what was proved, or with 1."""

import json
import sys
from hashlib import sha256
from pathlib import Path


def demand(holds: object, otherwise: str) -> None:
    if not holds:
        sys.exit(f"NOT PROVED: {otherwise}")


def check(proof: dict, root: str) -> None:
    """Every part is a leaf of its own under the root, all sums are sums of what is not below zero, the parts make the balance."""
    demand(proof["format"] == "custody-liability-v1", "this is a proof of another kind")
    wallet, leaves = bytes.fromhex(proof["wallet"].replace("-", "")), set()
    for part in proof["parts"]:
        amounts = [int(part["amount"]), *(int(amount) for _, _, amount in part["path"])]
        demand(min(amounts) >= 0 and sum(amounts) < 2**256, "an amount is out of range")
        owner, total = sha256(bytes.fromhex(part["salt"]) + wallet).digest(), amounts[0]
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
    whole = sum(int(part["amount"]) for part in proof["parts"])
    demand(whole == int(proof["balance"]), "the parts make another balance")
    print(f"PROVED at checkpoint {proof['sequence']}: {proof['asset']}")
    print(f"wallet    {wallet.hex()}\nbalance   {int(proof['balance'])}\nof all    {int(proof['total'])}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        check(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), sys.argv[2].lower())
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        sys.exit(f"NOT PROVED: the proof is malformed ({type(error).__name__})")
