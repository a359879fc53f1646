"""The signer's alternatives of one nonce before a real EVM node: each takes the place of the one before, and one is mined."""

from __future__ import annotations

from typing import Any

import pytest

from devnet.evm import Outsider
from signer.protocol import canonical
from signer.protocol.messages import EvmBinding, Signed
from tests.fakes.signer_desk import Desk, approved, make_key
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_kinds import make_kind
from tests.fakes.signer_people import RECEIVER, make_policy, make_transfer
from tests.integration.anvil_node import run_anvil

pytestmark = pytest.mark.stack

GWEI = 10**9
CAPS = {"max_fee_per_gas": 1000 * GWEI, "max_priority_fee_per_gas": 500 * GWEI}


def bid(nonce: int, factor: int) -> EvmBinding:
    return EvmBinding(
        nonce=nonce, max_fee_per_gas=100 * GWEI * factor // 100, max_priority_fee_per_gas=GWEI * factor // 100
    )


async def test_a_node_takes_each_alternative_instead_of_the_last_and_mines_one(tmp_path: Any) -> None:
    desk = Desk(directory=tmp_path, token=FakeToken(), policy=make_policy())
    decider = desk.start()
    key = make_key(decider)

    def sign(intent: Any, binding: EvmBinding) -> Signed:
        return decider.sign(approved(intent, binding))

    first = make_transfer(key, START, **CAPS)
    digest = canonical.digest(canonical.encode(first)).hex()
    named = {"gas_limit": first.gas_limit, **CAPS}
    again = make_kind("evm_replace", key, START, replaces=digest, **named)
    cancel = make_kind("evm_cancel", key, START, cancels=digest, **named)
    async with run_anvil() as url, Outsider(url) as node:
        await node.call("anvil_setBalance", key.address, hex(10**20))
        await node.call("evm_setAutomine", False)
        hashes = []
        for intent, factor in ((first, 100), (again, 110), (cancel, 121)):
            signed = sign(intent, bid(0, factor))
            hashes.append("0x" + signed.tx_hash)
            assert await node.call("eth_sendRawTransaction", "0x" + signed.tx.hex()) == hashes[-1]
        await node.call("evm_mine")
        receipts = [await node.call("eth_getTransactionReceipt", each) for each in hashes]
        assert [receipt is not None for receipt in receipts] == [False, False, True]
        assert int(receipts[2]["status"], 16) == 1
        assert int(await node.call("eth_getBalance", RECEIVER, "latest"), 16) == 0
        assert int(await node.call("eth_getTransactionCount", key.address, "latest"), 16) == 1
    assert desk.record is not None
    desk.record.close()
