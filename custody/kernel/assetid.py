"""Names of chains and assets.

A chain is named after CAIP-2 (`eip155:1`, `stellar:pubnet`), an asset by its chain and its reference there:
`stellar:pubnet/native`, `stellar:pubnet/USDC:GA5Z…`, `stellar:pubnet/sep41:CB23…`, `eip155:1/native`, `eip155:1/erc20:0xA0b8…`.
Money of banks is `fiat/EUR`. `sep41` is a token that a contract keeps in its own way; the contract of a classic asset is none.
Whether a reference is a real account or contract is the chain's own parser's business (`custody/chains`); here only the shape
is checked, so that two spellings never name one asset. Source: CAIP-2, CAIP-19, SEP-41, ISO 4217.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import NewType

from custody.kernel.errors import InvalidInput

ChainId = NewType("ChainId", str)

FIAT = ChainId("fiat")
"""Stands where a chain stands for money that banks hold."""

NATIVE = "native"
"""Reference of a chain's own currency."""

_SEP41 = "sep41:"
"""Asset namespace of tokens of Stellar contracts. Code and issuer name all other credit: no issuer begins with C."""

_CHAIN = re.compile(r"[a-z0-9]{3,8}:[a-zA-Z0-9_-]{1,32}")
_REFERENCES = {
    "stellar": re.compile(r"native|[a-zA-Z0-9]{1,12}:G[A-Z2-7]{55}|sep41:C[A-Z2-7]{55}"),
    "eip155": re.compile(r"native|erc20:0x[0-9a-fA-F]{40}"),
    "fiat": re.compile(r"[A-Z]{3}"),
}


class MalformedAssetId(InvalidInput):
    """The text names no asset."""

    code = "malformed_asset_id"
    public = "The asset id is not of the form chain/reference."


@dataclass(frozen=True, slots=True, order=True)
class AssetId:
    """One asset on one chain. Equality of `text` is identity."""

    chain: ChainId
    """CAIP-2 name of the chain, or `fiat`."""
    reference: str
    """What the chain calls it: `native`, `CODE:ISSUER`, `sep41:C…`, `erc20:0x…`, or a currency code."""

    @property
    def text(self) -> str:
        """The canonical spelling."""
        return f"{self.chain}/{self.reference}"

    @property
    def is_native(self) -> bool:
        """Whether this is the chain's own currency, in which its fees are paid."""
        return self.reference == NATIVE

    @property
    def contract(self) -> str | None:
        """The C… id of the contract whose own token this is; None for any other asset."""
        # A credit asset may have the code SEP41: its issuer tells the two apart.
        return self.reference.removeprefix(_SEP41) if self.reference.startswith(_SEP41 + "C") else None

    def __str__(self) -> str:
        return self.text


def parse_chain_id(text: str) -> ChainId:
    """A CAIP-2 chain name. Raises MalformedAssetId."""
    namespace = text.partition(":")[0]
    if not _CHAIN.fullmatch(text) or namespace not in _REFERENCES or namespace == FIAT:
        raise MalformedAssetId(chain=text[:64])
    return ChainId(text)


@lru_cache(4096)
def parse_asset_id(text: str) -> AssetId:
    """The asset that this text names, remembered since most texts name one of few. Raises MalformedAssetId."""
    chain, slash, reference = text.partition("/")
    namespace = chain.partition(":")[0]
    shape = _REFERENCES.get(namespace)
    if not slash or shape is None or not shape.fullmatch(reference):
        raise MalformedAssetId(asset=text[:128])
    return AssetId(FIAT if chain == FIAT else parse_chain_id(chain), reference)


def native(chain: ChainId) -> AssetId:
    """The currency in which this chain's fees are paid."""
    return AssetId(chain, NATIVE)


def sep41(chain: ChainId, contract: str) -> AssetId:
    """The token that this contract of a Stellar network keeps."""
    return AssetId(chain, _SEP41 + contract)
