"""The platform's reading of intents: the kinds that it builds as the signer sees them, any other kind refused and not guessed."""

import json
from pathlib import Path

import pytest

from custody.signing import intents
from custody.signing.errors import InvalidIntent
from signer.effects import amount_of, asset_of, destination_of, fee_cap_of, own_vault_of
from signer.protocol import canonical
from signer.protocol.intent import MessageIntent

VECTORS = sorted((Path(__file__).parent.parent / "golden" / "intents").glob("*.json"))
BUILT = {
    "stellar_payment",
    "stellar_channel_payment",
    "stellar_create_account",
    "stellar_create_claimable_balance",
    "stellar_fee_bump",
    "stellar_change_trust",
    "stellar_anchor",
    "stellar_memo_required",
    "evm_transfer",
    "evm_erc20_transfer",
    "evm_cancel",
    "evm_fill",
    "evm_replace",
    "evm_sweep",
    "evm_erc20_sweep",
}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_facts_are_those_of_the_signer_or_none(path: Path) -> None:
    data = json.loads(path.read_text())["canonical"].encode()
    intent = canonical.decode(data)
    kind = canonical.kind_of(intent)
    assert intents.show(data)["kind"] == kind
    if kind not in BUILT:
        with pytest.raises(InvalidIntent):
            intents.facts_of(data)
        return
    facts = intents.facts_of(data)
    assert (facts.asset, facts.destination, facts.into_vault, facts.amount, facts.fee_max) == (
        asset_of(intent),
        destination_of(intent),
        own_vault_of(intent),
        amount_of(intent),
        fee_cap_of(intent),
    )


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_a_message_has_no_price(path: Path) -> None:
    data = json.loads(path.read_text())["canonical"].encode()
    if isinstance(canonical.decode(data), MessageIntent):
        with pytest.raises(InvalidIntent):
            intents.price_caps(data)
    else:
        assert intents.price_caps(data)[0] > 0
