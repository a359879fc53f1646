"""What a block left of our accounts, as absolute values: balances as the node tells, nonces from proved transactions. Pure.

A block shows only accounts that it names, so that a balance may change in between (`ChainState.shows_all`); `ingestion.survey`
finds what does. Source: Ethereum yellow paper, section 4.1 (nonce, balance).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from custody.holdings.model import AccountState, ChainState, HoldingState
from custody.kernel.assetid import AssetId
from ingestion.evm.balances import Reading
from ingestion.model import BlockFacts


def read_state(facts: BlockFacts, readings: Iterable[Reading], listed: Collection[AssetId]) -> ChainState:
    """How the block left ether and listed tokens of the accounts that were asked about, and the nonces of those that sent.

    Tokens that are not listed have no books to be compared with, and one whose contract tells no balance has no state.
    """
    holdings, ether = [], {}
    for each in readings:
        if each.before is None or each.after is None:
            continue
        if each.asset.is_native:
            ether[each.account] = each.after
        elif each.asset not in listed:
            continue
        holdings.append(
            HoldingState(
                account=each.account, asset=each.asset, exists=True, before=each.before, amount=each.after
            )
        )
    nonces: dict[str, int] = {}
    for sent in facts.transactions:
        nonces[sent.account] = max(nonces.get(sent.account, 0), sent.sequence + 1)
    accounts = tuple(
        AccountState(account=account, exists=True, sequence=nonce, spendable=ether[account])
        for account, nonce in nonces.items()
        if account in ether
    )
    return ChainState(holdings=tuple(holdings), accounts=accounts, shows_all=False)
