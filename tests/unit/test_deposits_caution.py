"""What a credit waits for beyond the chain's finality, at each edge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from custody.deposits.model import Caution, ObservedTransfer
from custody.kernel.assetid import ChainId, parse_asset_id

CHAIN = ChainId("eip155:1")
USDC = parse_asset_id("eip155:1/erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48")
ETH = parse_asset_id("eip155:1/native")
SEEN = ObservedTransfer(
    chain=CHAIN,
    height=100,
    block_hash="0xaa",
    tx_hash="0x01",
    ordinal=0,
    asset=USDC,
    source="",
    account="0x02",
    tag=None,
    memo="",
    amount=1_000,
    occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
)


@pytest.mark.parametrize(
    ("caution", "finality", "agreement"),
    [
        (Caution(), False, False),
        (Caution(final={USDC: 100}), False, False),
        (Caution(final={USDC: 99}), True, False),
        (Caution(final={USDC: -1}), True, False),
        (Caution(final={ETH: -1}), False, False),
        (Caution(agreement_from={USDC: 1_001}), False, False),
        (Caution(agreement_from={USDC: 1_000}), False, True),
        (Caution(agreement_from={USDC: 0}), False, True),
        (Caution(agreement_from={ETH: 0}), False, False),
        (Caution(agreement_from={USDC: 0}, agreed={"0xaa"}), False, False),
        (Caution(agreement_from={USDC: 0}, agreed={"0xbb"}), False, True),
        (Caution(agreement_always=True), False, True),
        (Caution(agreement_always=True, agreement_from={USDC: 10**9}), False, True),
        (Caution(agreement_always=True, agreed={"0xaa"}), False, False),
        (Caution(final={USDC: 99}, agreement_always=True, agreed={"0xaa"}), True, False),
    ],
)
def test_a_credit_waits_for_its_assets_finality_and_for_providers(
    caution: Caution, finality: bool, agreement: bool
) -> None:
    assert caution.waits_for_finality(SEEN) is finality
    assert caution.waits_for_agreement(SEEN) is agreement
    assert caution.holds(SEEN) is (finality or agreement)
    # The asset decides, not where it lies: another one of the same block goes on, unless all must wait.
    assert caution.holds(replace(SEEN, asset=parse_asset_id(f"{CHAIN}/erc20:0x{'11' * 20}"))) is (
        caution.agreement_always and "0xaa" not in caution.agreed
    )
