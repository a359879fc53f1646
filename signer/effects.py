"""What an intent does, in the words that rules speak: which asset, to whom, how much, at what cost.

SPEC.md section 2 has the same as a table, and `tests/unit/test_signer_effects.py` a row per kind.
"""

from signer.protocol.fields import INT64_MAX
from signer.protocol.intent import (
    EvmCancel,
    EvmErc20Approve,
    EvmErc20Sweep,
    EvmErc20Transfer,
    EvmFill,
    EvmIntent,
    EvmMessage,
    EvmReplace,
    EvmSweep,
    Intent,
    MessageIntent,
    StellarAccountMerge,
    StellarAnchor,
    StellarChangeTrust,
    StellarChannelPayment,
    StellarClaimablePayment,
    StellarClaimBalance,
    StellarContractPayment,
    StellarFeeBump,
    StellarMemoRequired,
    StellarMessage,
    StellarPathReceive,
    StellarPathSend,
    StellarPayment,
    StellarSetOptions,
)

NO_ASSET = "none"
"""Asset of a message: nothing can move by it."""
UNKNOWN_AMOUNT = INT64_MAX
"""Amount of a merge: all that the account holds, so only a cap that stops nothing holds it."""
INTO_VAULT = "vault:"
"""Before the name of a vault, in the destinations of a rule: any key of that vault of the intent's own org."""


def asset_of(intent: Intent) -> str:
    """Return the asset that leaves: "native", "CODE:ISSUER", a token's address, or "none"."""
    match intent:
        case (
            StellarPayment()
            | StellarChannelPayment()
            | StellarContractPayment()
            | StellarClaimablePayment()
            | StellarChangeTrust()
            | EvmReplace()
        ):
            return intent.asset
        case StellarPathSend() | StellarPathReceive():
            return intent.send_asset
        case EvmErc20Transfer() | EvmErc20Sweep() | EvmErc20Approve():
            return intent.token
        case StellarMessage() | EvmMessage():
            return NO_ASSET
        case _:
            return "native"


def destination_of(intent: Intent) -> str:
    """Return who receives money or power; the source itself where nobody else does."""
    match intent:
        case StellarChangeTrust():
            return intent.asset.partition(":")[2]
        case EvmErc20Approve():
            return intent.spender
        case StellarSetOptions():
            return intent.signer_key or intent.source
        case StellarAnchor() | StellarClaimBalance() | StellarMemoRequired() | StellarFeeBump():
            return intent.source
        case EvmCancel() | EvmFill():
            return intent.source
        case StellarMessage() | EvmMessage():
            return intent.source
        case _:
            return intent.destination


def destinations_of(intent: Intent) -> tuple[str, ...]:
    """Return the names under which a rule may list the destination: its address and, for a key of ours, its vault."""
    vault = own_vault_of(intent)
    return (destination_of(intent), INTO_VAULT + vault) if vault else (destination_of(intent),)


def own_vault_of(intent: Intent) -> str:
    """Return the vault of the same org that has to hold the key of the destination; "" where anybody may receive."""
    if isinstance(intent, StellarAccountMerge | EvmSweep | EvmErc20Sweep):
        return intent.destination_vault
    return ""


def amount_of(intent: Intent) -> int:
    """Return the amount that caps speak about, in atomic units; 0 where only the fee leaves."""
    match intent:
        case StellarChangeTrust():
            return intent.limit
        case StellarPathSend():
            return intent.send_amount
        case StellarPathReceive():
            return intent.send_max
        case StellarAccountMerge():
            return UNKNOWN_AMOUNT
        case (
            StellarAnchor()
            | StellarSetOptions()
            | StellarClaimBalance()
            | StellarMemoRequired()
            | StellarFeeBump()
            | EvmCancel()
            | EvmFill()
            | StellarMessage()
            | EvmMessage()
        ):
            return 0
        case _:
            return intent.amount


def moved_by(intent: Intent) -> int:
    """Return the amount that velocity counts.

    A trustline moves nothing. A replacement moves what was counted when the intent that it replaces was bound. What a merge
    moves is not known here, and stays with the org. An allowance counts whole when it is given.
    """
    if isinstance(intent, StellarChangeTrust | StellarAccountMerge | EvmReplace):
        return 0
    return amount_of(intent)


def fee_cap_of(intent: Intent) -> int:
    """Return the most that the transaction may cost, in the chain's native atomic units; 0 for a message."""
    if isinstance(intent, MessageIntent):
        return 0
    if isinstance(intent, EvmIntent):
        return intent.gas_limit * intent.max_fee_per_gas
    return intent.max_fee


def needs_own_rule(intent: Intent) -> bool:
    """Tell whether only a rule that names the kind may allow it, since no amount says what it can do: power over an account or
    its money, an amount that nobody knows, a reserve that stays locked until somebody else acts, a signature that says something.
    """
    return isinstance(
        intent,
        StellarAccountMerge | StellarSetOptions | StellarClaimablePayment | EvmErc20Approve | MessageIntent,
    )


def needs_listed_destination(intent: Intent) -> bool:
    """Tell whether only a rule that lists the destination may allow it: somebody gets power over the account or its money."""
    match intent:
        case EvmErc20Approve():
            return intent.amount > 0
        case StellarSetOptions():
            return intent.signer_weight not in ("", "0")
        case _:
            return False


def named_by(intent: Intent) -> bytes:
    """Return the digest of the earlier intent that this one builds upon; b"" for none."""
    match intent:
        case EvmReplace():
            return bytes.fromhex(intent.replaces)
        case EvmCancel():
            return bytes.fromhex(intent.cancels)
        case StellarFeeBump():
            return bytes.fromhex(intent.inner)
        case _:
            return b""
