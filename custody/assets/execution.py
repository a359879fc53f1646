"""Ask the world about an asset before it is listed. Talks to the network: never inside a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from custody.assets.errors import DecimalsDiffer, TokenNotRead
from custody.kernel.assetid import AssetId, ChainId


@runtime_checkable
class TokenReader(Protocol):
    """A chain whose tokens say how they are counted. `custody.chains.stellar.rpc.StellarRpc` is one."""

    @property
    def token_contracts(self) -> frozenset[str]:
        """The contracts whose events are believed about their own token."""
        ...

    async def token_decimals(self, contract: str) -> int | None:
        """What the contract says; None where the node cannot run contracts."""
        ...


async def verify_listing(clients: Mapping[ChainId, object], asset: AssetId, decimals: int) -> bool:
    """Whether a contract's own word agrees with what is to be listed; False when nobody can be asked, and it is taken as given.

    Raises TokenNotRead for a contract whose events nobody would believe, DecimalsDiffer, and what the chain's client raises.
    """
    contract = asset.contract
    if contract is None:
        return False
    client = clients.get(asset.chain)
    if not isinstance(client, TokenReader) or contract not in client.token_contracts:
        raise TokenNotRead(asset=asset.text)
    told = await client.token_decimals(contract)
    if told is not None and told != decimals:
        raise DecimalsDiffer(asset=asset.text, given=decimals, told=told)
    return told is not None
