"""One door to the addresses of every chain: text in, a checked destination out. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from custody.chains.errors import UnsupportedChain
from custody.chains.evm import address as evm
from custody.chains.stellar import address as stellar
from custody.kernel.assetid import ChainId

STELLAR = "stellar"
EVM = "eip155"


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Where money can go on one chain."""

    chain: ChainId
    address: str
    """The canonical spelling of what was given: M…, G… or an EIP-55 address."""
    account: str
    """The account on chain that holds the money: G… or an EIP-55 address."""
    tag: int | None
    """The muxed id of an M… address."""


def parse(chain: ChainId, text: str) -> Destination:
    """The destination that this text names on this chain. Raises InvalidAddress, UnsupportedChain."""
    match namespace(chain):
        case "stellar":
            found = stellar.parse_destination(text)
            return Destination(chain=chain, address=found.address, account=found.account, tag=found.tag)
        case "eip155":
            account = evm.parse_address(text)
            return Destination(chain=chain, address=account, account=account, tag=None)
        case other:
            raise UnsupportedChain(chain=chain, namespace=other)


def account_of_key(chain: ChainId, public_key: bytes) -> str:
    """The account that a public key controls on this chain. Raises InvalidAddress, UnsupportedChain."""
    match namespace(chain):
        case "stellar":
            return stellar.account_of_key(public_key)
        case "eip155":
            return evm.account_of_key(public_key)
        case other:
            raise UnsupportedChain(chain=chain, namespace=other)


def curve_of(chain: ChainId) -> str:
    """The curve of this chain's keys, by the signer's name for it. Raises UnsupportedChain."""
    curves = {STELLAR: "ed25519", EVM: "secp256k1"}
    found = curves.get(namespace(chain))
    if found is None:
        raise UnsupportedChain(chain=chain)
    return found


def namespace(chain: ChainId) -> str:
    """The kind of chain: what stands before the colon of its CAIP-2 id."""
    return chain.partition(":")[0]
