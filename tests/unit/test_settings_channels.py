"""Channels and fee bumps: who wants them says what they may cost, and an account that could not pay is refused at the start."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from custody.chain_settings import STELLAR_RESERVE, ChainSettings

CHAIN: dict[str, Any] = {
    "id": "stellar:devnet",
    "kind": "stellar",
    "rpc_url": "http://127.0.0.1:1",
    "network_passphrase": "Custody Devnet ; 2026",
    "confirmations": 0,
    "max_fee_stroops": 1000,
    "tx_valid_s": 60,
    "tx_valid_ledgers": 12,
}
LEAST = STELLAR_RESERVE + 4 * 1000


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"channels": 1, "channel_balance_stroops": LEAST},
        {"fee_bump_max_stroops": 1000, "fee_account_balance_stroops": LEAST},
    ],
)
def test_helpers_that_can_pay_four_fees_are_taken(changes: dict[str, Any]) -> None:
    chain = ChainSettings(**CHAIN, **changes)
    assert (chain.channels, chain.fee_bump_max_stroops) == (
        changes.get("channels", 0),
        changes.get("fee_bump_max_stroops", 0),
    )


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"channels": 1}, "channel_balance_stroops"),
        ({"channels": 1, "channel_balance_stroops": LEAST - 1}, "channel_balance_stroops"),
        ({"channel_balance_stroops": LEAST}, "channel_balance_stroops"),
        ({"fee_bump_max_stroops": 1000}, "fee_account_balance_stroops"),
        (
            {"fee_bump_max_stroops": 1000, "fee_account_balance_stroops": LEAST - 1},
            "fee_account_balance_stroops",
        ),
        ({"fee_account_balance_stroops": LEAST}, "fee_account_balance_stroops"),
        ({"channels": -1}, "channels"),
        ({"channels": 1001, "channel_balance_stroops": LEAST}, "channels"),
    ],
)
def test_helpers_that_could_not_pay_are_named(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ValidationError, match=name):
        ChainSettings(**CHAIN, **changes)


def test_an_evm_chain_has_none() -> None:
    evm = {
        "id": "eip155:1",
        "kind": "evm",
        "rpc_url": "http://127.0.0.1:1",
        "chain_id": 1,
        "confirmations": 1,
        "gas_limit_native": 21_000,
        "gas_limit_erc20": 90_000,
        "max_fee_per_gas_wei": 1,
        "max_priority_fee_per_gas_wei": 1,
        "tx_valid_s": 60,
    }
    assert ChainSettings(**evm).channels == 0  # type: ignore[arg-type]  # a table
    with pytest.raises(ValidationError, match="none of the other"):
        ChainSettings(**evm, channels=1, channel_balance_stroops=LEAST)  # type: ignore[arg-type]
