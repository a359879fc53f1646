"""What a Stellar network's settings may say about tokens and audits, and that an EVM chain says neither."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from custody.settings import ChainSettings

TOKEN = "C" + "A" * 55


def settings(**changes: Any) -> ChainSettings:
    stellar = {
        "id": "stellar:devnet",
        "kind": "stellar",
        "rpc_url": "http://127.0.0.1:1",
        "network_passphrase": "Somewhere",
        "confirmations": 0,
        "max_fee_stroops": 1000,
        "tx_valid_s": 60,
        "tx_valid_ledgers": 10,
    }
    return ChainSettings(**(stellar | changes))


def test_nothing_is_listed_and_only_our_accounts_are_proved_unless_asked() -> None:
    plain = settings()
    assert (plain.token_contracts, plain.audit_ledgers) == (frozenset(), False)
    asked = settings(token_contracts=[TOKEN], audit_ledgers=True)
    assert (asked.token_contracts, asked.audit_ledgers) == ({TOKEN}, True)


@pytest.mark.parametrize("token", ["", "USDC", TOKEN[:-1], TOKEN.lower(), "G" + TOKEN[1:]])
def test_what_is_no_contract_cannot_be_listed(token: str) -> None:
    with pytest.raises(ValidationError, match="token_contracts"):
        settings(token_contracts=[token])


@pytest.mark.parametrize("foreign", [{"token_contracts": [TOKEN]}, {"audit_ledgers": True}])
def test_an_evm_chain_has_no_ledgers_to_audit(foreign: dict[str, Any]) -> None:
    evm = {
        "id": "eip155:1",
        "kind": "evm",
        "network_passphrase": "",
        "max_fee_stroops": 0,
        "tx_valid_ledgers": 0,
        "chain_id": 1,
        "gas_limit_native": 21000,
        "gas_limit_erc20": 100000,
        "max_fee_per_gas_wei": 1,
        "max_priority_fee_per_gas_wei": 1,
    }
    assert settings(**evm).kind == "evm"
    with pytest.raises(ValidationError, match="none of the other"):
        settings(**evm, **foreign)
