"""Questions to a token's contract, answered by a simulated call: nothing is signed, sent or paid.

Source: SEP-41 0.5 (`decimals`, `balance`); Stellar RPC v28, simulateTransaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from stellar_sdk import Account, StrKey, TransactionBuilder, scval, xdr

from custody.chains.errors import InvalidAddress, RpcRefused, RpcUnreadable, TokenRefused
from custody.chains.jsonrpc import JsonRpc, require_dict, require_int, require_list, require_str

_METHOD = "simulateTransaction"
_NOBODY = StrKey.encode_ed25519_public_key(bytes(32))
"""Whose call it is: a simulation asks for no signature and no existing account."""
_METHOD_NOT_FOUND = -32601
"""JSON-RPC. A node without contracts."""


async def decimals(rpc: JsonRpc, network_passphrase: str, contract: str) -> int | None:
    """How many digits stand behind the point; None when the node cannot run contracts. Raises InvalidAddress, TokenRefused."""
    try:
        value, _ = await _call(rpc, network_passphrase, contract, "decimals", [])
    except RpcRefused as error:
        if error.rpc_code == _METHOD_NOT_FOUND:
            return None
        raise
    if value.u32 is None:
        raise TokenRefused(contract=contract, reason="its decimals are no number")
    return value.u32.uint32


async def balance(rpc: JsonRpc, network_passphrase: str, contract: str, holder: str) -> tuple[int, int]:
    """What the contract says that somebody holds, and the node's newest ledger, at which it says so. Raises TokenRefused."""
    arguments = [scval.to_address(holder)]
    value, latest = await _call(rpc, network_passphrase, contract, "balance", arguments)
    if value.i128 is None or (amount := scval.from_int128(value)) < 0:
        raise TokenRefused(contract=contract, reason="its balance is no amount")
    return amount, latest


async def _call(
    rpc: JsonRpc, network_passphrase: str, contract: str, function: str, arguments: Sequence[xdr.SCVal]
) -> tuple[xdr.SCVal, int]:
    """What a function of the contract returns, and the ledger after which it was asked."""
    if not StrKey.is_valid_contract(contract):
        raise InvalidAddress(address=contract)
    builder = TransactionBuilder(Account(_NOBODY, 0), network_passphrase, base_fee=100).add_time_bounds(0, 0)
    builder.append_invoke_contract_function_op(contract, function, arguments)
    answer = require_dict(_METHOD, await rpc.call(_METHOD, {"transaction": builder.build().to_xdr()}))
    latest = require_int(_METHOD, answer.get("latestLedger"))
    if answer.get("error") is not None:
        raise TokenRefused(contract=contract, reason=str(answer["error"])[:200])
    results = require_list(_METHOD, answer.get("results"))
    if len(results) != 1:
        raise RpcUnreadable(method=_METHOD, reason="a call without its one result")
    try:
        returned = require_str(_METHOD, require_dict(_METHOD, results[0]).get("xdr"))
        return xdr.SCVal.from_xdr(returned), latest
    except (ValueError, EOFError) as error:
        raise RpcUnreadable(method=_METHOD, reason="a result that does not decode") from error
