"""What an approver agrees to and the signer signs: one frozen value per kind of effect.

Every field is required and plain (str or int). Amounts and fees are integers of atomic units. Times are unix seconds. The
canonical bytes and the checks on every field are in `canonical`; the byte-level specification is SPEC.md.
"""

from signer.protocol.fields import MemoType
from signer.protocol.intents.evm import (
    EvmCancel,
    EvmErc20Approve,
    EvmErc20Sweep,
    EvmErc20Transfer,
    EvmFill,
    EvmReplace,
    EvmSweep,
    EvmTransfer,
)
from signer.protocol.intents.message import EvmMessage, StellarMessage
from signer.protocol.intents.stellar_accounts import (
    StellarAccountMerge,
    StellarAnchor,
    StellarChangeTrust,
    StellarClaimBalance,
    StellarFeeBump,
    StellarMemoRequired,
    StellarSetOptions,
)
from signer.protocol.intents.stellar_payments import (
    StellarChannelPayment,
    StellarClaimablePayment,
    StellarContractPayment,
    StellarCreateAccount,
    StellarPathReceive,
    StellarPathSend,
    StellarPayment,
)

__all__ = [
    "EvmCall",
    "EvmCancel",
    "EvmErc20Approve",
    "EvmErc20Sweep",
    "EvmErc20Transfer",
    "EvmFill",
    "EvmIntent",
    "EvmMessage",
    "EvmReplace",
    "EvmSweep",
    "EvmTransfer",
    "Intent",
    "MemoType",
    "MessageIntent",
    "StellarAccountMerge",
    "StellarAnchor",
    "StellarChangeTrust",
    "StellarChannelPayment",
    "StellarClaimBalance",
    "StellarClaimablePayment",
    "StellarContractPayment",
    "StellarCreateAccount",
    "StellarFeeBump",
    "StellarIntent",
    "StellarMemoRequired",
    "StellarMessage",
    "StellarOperation",
    "StellarPathReceive",
    "StellarPathSend",
    "StellarPayment",
    "StellarSetOptions",
]

StellarOperation = (
    StellarPayment
    | StellarChannelPayment
    | StellarContractPayment
    | StellarCreateAccount
    | StellarClaimablePayment
    | StellarPathSend
    | StellarPathReceive
    | StellarChangeTrust
    | StellarAnchor
    | StellarAccountMerge
    | StellarSetOptions
    | StellarClaimBalance
    | StellarMemoRequired
)
"""Becomes one operation of a transaction of its own."""
StellarIntent = StellarOperation | StellarFeeBump
EvmCall = EvmTransfer | EvmErc20Transfer | EvmSweep | EvmErc20Sweep | EvmErc20Approve | EvmFill
"""Says by itself what the transaction does."""
EvmIntent = EvmCall | EvmReplace | EvmCancel
MessageIntent = StellarMessage | EvmMessage
"""Becomes a signature and no transaction."""
Intent = StellarIntent | EvmIntent | MessageIntent
