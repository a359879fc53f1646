"""The few words of the contract ABI that custody speaks: ERC-20's Transfer event and balanceOf, WETH9's two events, a proxy's
upgrade, and JSON-RPC quantities. Pure.

Source: Solidity ABI specification; ERC-20; the Ethereum JSON-RPC specification (quantities are minimal hex).
"""

from __future__ import annotations

from custody.chains.errors import RpcUnreadable

TRANSFER_TOPIC = "0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"
"""keccak256("Transfer(address,address,uint256)"). ERC-721 shares it, with a fourth topic."""
DEPOSIT_TOPIC = "0xe1fffcc4923d04b559f4d29a8bfc6cda04eb5b0d3c460751c2402c5c5cc9109c"
"""keccak256("Deposit(address,uint256)"): wrapped ether is made. Source: WETH9."""
WITHDRAWAL_TOPIC = "0x7fcf532c15f0a6db0bd6d0e038bea71d30d808c7d98cb3bf7268a95bf5081b65"
"""keccak256("Withdrawal(address,uint256)"): wrapped ether is given back. Source: WETH9."""
UPGRADED_TOPIC = "0xbc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b"
"""keccak256("Upgraded(address)"). Source: EIP-1967."""
IMPLEMENTATION_SLOT = "0x360894a13ba1a3210667c828492db98dca3e2076cc3735a920a3ca505d382bbc"
"""Where a proxy keeps its implementation. Source: EIP-1967."""
DECIMALS_CALL = "0x313ce567"
"""Call data of `decimals()`."""
_BALANCE_OF = "0x70a08231"
"""First four bytes of keccak256("balanceOf(address)")."""


def balance_of_call(account: str) -> str:
    """Call data of `balanceOf(account)`."""
    return _BALANCE_OF + account[2:].lower().rjust(64, "0")


def parse_quantity(method: str, value: object) -> int:
    """A JSON-RPC quantity (`0x1f`). Raises RpcUnreadable."""
    if not isinstance(value, str) or not value.startswith("0x") or len(value) < 3:
        raise RpcUnreadable(method=method, reason="expected a hex quantity")
    try:
        return int(value, 16)
    except ValueError as error:
        raise RpcUnreadable(method=method, reason="expected a hex quantity") from error


def parse_word(method: str, value: object) -> int:
    """One ABI word (32 bytes) as an unsigned integer. Raises RpcUnreadable when it is longer or shorter."""
    if not isinstance(value, str) or len(value) != 66:
        raise RpcUnreadable(method=method, reason="expected one 32-byte word")
    return parse_quantity(method, value)


def topic_address(topic: str) -> str:
    """The address in an indexed topic, lower-case."""
    return "0x" + topic[-40:].lower()
