"""What can go wrong between us and a chain's node or its addresses."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, InvariantViolated, Unavailable


class InvalidAddress(InvalidInput):
    """The text is no address of that chain: wrong alphabet, checksum, length or network."""

    code = "invalid_address"
    public = "The address is not valid for this chain."


class UnsupportedChain(InvalidInput):
    """No chain of that id is configured, or the asset belongs to another kind of chain."""

    code = "unsupported_chain"
    public = "This chain is not configured."


class RpcUnreachable(Unavailable):
    """The node gave no usable answer: no connection, a timeout, an HTTP error. Whether it acted is unknown."""

    code = "chain_rpc_unreachable"
    public = "The chain's node cannot be reached."


class NotConnected(RpcUnreachable):
    """There was no connection over which anything could be asked: the node has surely not acted."""


class RpcRefused(Unavailable):
    """The node answered with a JSON-RPC error. `rpc_code` and `rpc_message` are the node's own words."""

    code = "chain_rpc_refused"
    public = "The chain's node refused the call."

    def __init__(self, *, method: str, rpc_code: int, rpc_message: str) -> None:
        super().__init__(method=method, rpc_code=rpc_code, rpc_message=rpc_message)
        self.rpc_code = rpc_code
        self.rpc_message = rpc_message


class RpcUnreadable(Unavailable):
    """The node answered, but not in the shape that its protocol promises."""

    code = "chain_rpc_unreadable"
    public = "The chain's node gave an answer that cannot be read."


class TokenRefused(Unavailable):
    """A token's contract did not answer a question that every token answers: it is none, or its state is archived."""

    code = "token_contract_refused"
    public = "The token's contract gave no answer."


class WrongNetwork(InvariantViolated):
    """The node serves another network than the one configured: nothing may be read from it or sent to it."""

    code = "chain_wrong_network"
    public = "The chain's node serves another network."


class InvalidAddressMemo(InvalidInput):
    """The memo cannot name a wallet: it does not fit its type, or is text that spells a number."""

    code = "invalid_address_memo"
    public = (
        "The memo does not fit its type. A number as text cannot be registered: it is matched as a memo id."
    )
