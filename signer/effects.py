"""What an intent does, in the words that rules speak: which asset, to whom, how much, at what cost."""

from signer.protocol.intent import (
    EvmErc20Transfer,
    EvmTransfer,
    Intent,
    StellarAnchor,
    StellarChangeTrust,
    StellarPayment,
)


def asset_of(intent: Intent) -> str:
    """Return the asset that a rule speaks about: "native", "CODE:ISSUER" or a token's address."""
    if isinstance(intent, StellarPayment | StellarChangeTrust):
        return intent.asset
    return intent.token if isinstance(intent, EvmErc20Transfer) else "native"


def destination_of(intent: Intent) -> str:
    """Return who receives; for a trustline the issuer that is trusted, for an anchor its own source."""
    if isinstance(intent, StellarAnchor):
        return intent.source
    if isinstance(intent, StellarChangeTrust):
        return intent.asset.partition(":")[2]
    return intent.destination


def amount_of(intent: Intent) -> int:
    """Return the amount that caps speak about; for a trustline its limit, for an anchor nothing."""
    if isinstance(intent, StellarAnchor):
        return 0
    return intent.limit if isinstance(intent, StellarChangeTrust) else intent.amount


def moved_by(intent: Intent) -> int:
    """Return the amount that velocity counts; a trustline and an anchor move nothing."""
    return 0 if isinstance(intent, StellarChangeTrust | StellarAnchor) else intent.amount


def fee_cap_of(intent: Intent) -> int:
    """Return the most that the transaction may cost, in the chain's native atomic units."""
    if isinstance(intent, EvmTransfer | EvmErc20Transfer):
        return intent.gas_limit * intent.max_fee_per_gas
    return intent.max_fee
