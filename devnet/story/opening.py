"""Acts 1 to 3: open the shop, fill the treasury's vaults, let the omnibus account trust USDC."""

from __future__ import annotations

import asyncio

from devnet.config import EVM_CHAIN, STELLAR_CHAIN
from devnet.story.cast import Cast
from devnet.story.client import Json, until
from devnet.story.outside import Outside
from devnet.story.treasury import set_rules

BALANCES = """
query ($id: ID!) { wallet(id: $id) { balances { asset { id } posted available } } }
"""


async def open_shop(cast: Cast, outside: Outside) -> None:
    """List the assets, let the omnibus keys be born in the HSM, and register three customers with wallets and addresses; say
    when these are swept."""
    for asset, code, decimals in (
        (f"{STELLAR_CHAIN}/native", "XLM", 7),
        (f"{STELLAR_CHAIN}/USDC:{outside.issuer}", "USDC", 7),
        (f"{EVM_CHAIN}/native", "ETH", 18),
        (f"{EVM_CHAIN}/erc20:{outside.token}", "TUSD", 6),
        ("fiat/EUR", "EUR", 2),
    ):
        body: Json = {"id": asset, "code": code, "decimals": decimals}
        await cast.operator.post("/v1/assets", body, key=f"asset-{code}")
        cast.names[code] = asset
    for chain in (STELLAR_CHAIN, EVM_CHAIN):
        vault = await cast.operator.post("/v1/vaults", {"chain": chain}, key=f"vault-{chain}")
        cast.names[f"vault {chain}"] = vault["id"]
        cast.names[f"account {chain}"] = vault["account"]
    for name, kind in (("treasury", "treasury"), ("ann", "customer"), ("bob", "customer")):
        await open_wallet(cast, name, kind)
    await set_rules(cast)


async def open_wallet(cast: Cast, name: str, kind: str) -> None:
    """A customer, their wallet, and a deposit address of it on each chain."""
    customer = await cast.app.post(
        "/v1/customers",
        {"name": name.capitalize(), "external_ref": name, "kind": kind},
        key=f"customer-{name}",
    )
    wallet = await cast.app.post(
        "/v1/wallets", {"customer_id": customer["id"], "name": "main"}, key=f"wallet-{name}"
    )
    cast.names[name] = wallet["id"]
    for chain in (STELLAR_CHAIN, EVM_CHAIN):
        address = await cast.app.post(
            f"/v1/wallets/{wallet['id']}/addresses", {"chain": chain}, key=f"address-{name}-{chain}"
        )
        cast.names[f"{name} {chain}"] = address["address"]
        cast.names[f"{name} {chain} memo"] = address["memo"] or ""


async def fill_treasury(cast: Cast, outside: Outside) -> None:
    """The tenant's own money: the omnibus account is created on Stellar, ether arrives at the omnibus address."""
    await asyncio.gather(
        outside.create_account(
            cast.names[f"account {STELLAR_CHAIN}"],
            1000 * 10**7,
            cast.names[f"treasury {STELLAR_CHAIN} memo"],
        ),
        outside.send_ether(cast.names[f"treasury {EVM_CHAIN}"], 5 * 10**18),
    )
    await holds(cast, "treasury", "XLM", 1000 * 10**7)
    await holds(cast, "treasury", "ETH", 5 * 10**18)


async def trust_usdc(cast: Cast) -> None:
    """Two approvers let the omnibus account open a trustline; the signer checks them before its key is touched."""
    asked = await cast.operator.post(
        f"/v1/vaults/{cast.names[f'vault {STELLAR_CHAIN}']}/trustlines",
        {"asset": cast.names["USDC"]},
        key="trust-usdc",
    )
    await cast.approve(asked["id"], "alice", "bob")
    await cast.reaches(asked["id"], "settled")


async def holds(cast: Cast, name: str, code: str, posted: int) -> None:
    """Wait until GraphQL shows this posted balance in somebody's wallet."""

    async def look() -> dict[str, int]:
        return await posted_balances(cast, name)

    await until(
        f"{name} to have {posted} {code}", look, lambda found: found.get(cast.names[code], 0) == posted
    )


async def posted_balances(cast: Cast, name: str) -> dict[str, int]:
    """A wallet's posted balances by asset, in atomic units."""
    data = await cast.app.graphql(BALANCES, id=cast.names[name])
    return {row["asset"]["id"]: int(row["posted"]) for row in data["wallet"]["balances"]}
