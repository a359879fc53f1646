"""What the product says of itself, through its public API alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx

from devnet.checker.model import Attempt, Books, Deposit, Withdrawal
from devnet.checker.stellar import split

PAGE = 100
FIELDS = {
    "withdrawals": """id kind state stuck destination memoType memo amount { atomic asset { id } }
        attempts { state txHash }""",
    "deposits": "id state chain account txHash amount { atomic asset { id } } wallet { id }",
    "cases": "state asset atomic",
    "wallets": """id balances { asset { id } posted pendingOut }
        addresses { chain account memoType memo address }""",
}
"""What is asked of each kind of thing."""
WITH_NOBODY = frozenset({"open", "ignored", "returning"})
"""States of a case whose money lies in suspense."""


def read_books(url: str, token: str) -> Books:
    """Everything, page by page."""
    with httpx.Client(
        base_url=url, timeout=60, trust_env=False, headers={"Authorization": f"Bearer {token}"}
    ) as http:
        accounts: dict[str, set[str]] = {}
        for vault in http.get("/v1/vaults").raise_for_status().json()["data"]:
            accounts.setdefault(vault["chain"], set()).add(vault["account"])
        owed, held = Counter[str](), Counter[str]()
        addresses: dict[tuple[str, str], str] = {}
        for wallet in _pages(http, "wallets"):
            for balance in wallet["balances"]:
                owed[balance["asset"]["id"]] += int(balance["posted"])
                held[balance["asset"]["id"]] += int(balance["pendingOut"])
            for address in wallet["addresses"]:
                addresses[_reached(address)] = wallet["id"]
        in_cases = Counter[str]()
        for case in _pages(http, "cases"):
            if case["state"] in WITH_NOBODY:
                in_cases[case["asset"]] += int(case["atomic"])
        return Books(
            accounts={chain: frozenset(found) for chain, found in accounts.items()},
            addresses=addresses,
            owed=owed,
            held=held,
            withdrawals=tuple(_withdrawal(each) for each in _pages(http, "withdrawals")),
            deposits=tuple(_deposit(each) for each in _pages(http, "deposits")),
            in_cases=in_cases,
        )


def _reached(address: Any) -> tuple[str, str]:
    """Account and tag under which payments arrive: on Stellar by muxed id or memo, which are one number."""
    if not address["chain"].startswith("stellar:"):
        return address["account"].lower(), ""
    return split(address["address"])


def _withdrawal(node: Any) -> Withdrawal:
    return Withdrawal(
        id=node["id"],
        kind=node["kind"],
        state=node["state"],
        asset=node["amount"]["asset"]["id"],
        amount=int(node["amount"]["atomic"]),
        destination=node["destination"],
        memo=None if node["memoType"] is None else (node["memoType"], node["memo"]),
        stuck=node["stuck"],
        attempts=tuple(Attempt(state=each["state"], tx_hash=each["txHash"]) for each in node["attempts"]),
    )


def _deposit(node: Any) -> Deposit:
    return Deposit(
        id=node["id"],
        state=node["state"],
        asset=node["amount"]["asset"]["id"],
        amount=int(node["amount"]["atomic"]),
        tx_hash=node["txHash"],
        account=node["account"],
        wallet=None if node["wallet"] is None else node["wallet"]["id"],
    )


def _pages(http: httpx.Client, name: str) -> Iterator[Any]:
    page_of = f"{name}(first: {PAGE}, after: $after)"
    edges = f"pageInfo {{ hasNextPage endCursor }} edges {{ node {{ {FIELDS[name]} }} }}"
    query = f"query ($after: String) {{ {page_of} {{ {edges} }} }}"
    after = None
    while True:
        asked = {"query": query, "variables": {"after": after}}
        answer = http.post("/graphql", json=asked).raise_for_status().json()
        if answer.get("errors"):
            raise ValueError(f"GraphQL: {answer['errors']}")
        page = answer["data"][name]
        yield from (edge["node"] for edge in page["edges"])
        if not page["pageInfo"]["hasNextPage"]:
            return
        after = page["pageInfo"]["endCursor"]
