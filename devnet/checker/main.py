"""Hold the local stack's books against both of its chains, with no code of the product: `python -m devnet.checker.main`.

The chains are read through their nodes and decoded by the SDK alone, the product through its public API. Prints what was
compared, and a sentence for each thing that is wrong; ends with 1 when there is any.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from devnet.checker.books import read_books
from devnet.checker.compare import compare
from devnet.checker.evm import read_evm
from devnet.checker.model import Books, Chain
from devnet.checker.stellar import read_stellar
from devnet.config import EVM_CHAIN, ROOT, STELLAR_CHAIN, STELLAR_PASSPHRASE
from devnet.record import load_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What came of it."""

    books: Books
    chains: tuple[Chain, ...]
    wrong: tuple[str, ...]

    def show(self) -> str:
        """One line on how much was compared."""
        payments = sum(len(chain.payments) for chain in self.chains)
        transactions = sum(len(chain.ours) for chain in self.chains)
        return (
            f"{len(self.books.withdrawals)} withdrawals and {len(self.books.deposits)} deposits against {payments} payments and "
            f"{transactions} transactions of our accounts on {len(self.chains)} chains: "
            + ("all is well" if not self.wrong else f"{len(self.wrong)} things are wrong")
        )


def check(*, api_url: str, token: str, stellar_url: str, evm_url: str) -> Checked:
    """Read everything and compare. The system should be quiet."""
    books = read_books(api_url, token)
    assets = frozenset(books.owed)
    on_stellar = frozenset(each for each in assets if each.startswith(f"{STELLAR_CHAIN}/"))
    tokens = {
        each.partition("/erc20:")[2].lower(): each
        for each in assets
        if each.startswith(f"{EVM_CHAIN}/erc20:")
    }
    accounts = books.accounts
    chains = (
        read_stellar(
            stellar_url,
            STELLAR_CHAIN,
            STELLAR_PASSPHRASE,
            accounts.get(STELLAR_CHAIN, frozenset()),
            on_stellar,
        ),
        read_evm(evm_url, EVM_CHAIN, accounts.get(EVM_CHAIN, frozenset()), tokens),
    )
    return Checked(books=books, chains=chains, wrong=tuple(compare(books, chains)))


def main() -> int:
    """0 when all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--state-dir", type=Path, default=ROOT / "var" / "devnet", help="default: var/devnet")
    state: Path = parser.parse_args().state_dir
    record = load_record(state / "stack.json")
    token = state / "keys" / "app"
    if record is None or not token.exists():
        print(f"no stack with a story runs in {state}: `make demo KEEP=1` starts one", file=sys.stderr)
        return 2
    found = check(
        api_url=record.urls["api"],
        token=token.read_text(encoding="ascii").strip(),
        stellar_url=record.urls["stellar"],
        evm_url=record.urls["evm"],
    )
    for sentence in found.wrong:
        print(sentence)
    print(found.show())
    return int(bool(found.wrong))


if __name__ == "__main__":
    sys.exit(main())
