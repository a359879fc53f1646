"""Why a node's answer about an EVM block is not booked. All may be asked again, of this node or of another."""

from __future__ import annotations

from custody.kernel.errors import InvariantViolated
from ingestion.errors import Unusable


class ForgedBlock(Unusable):
    """What the node says of a block contradicts the block's own hashes: a log left out, a receipt or a header altered."""

    code = "ingestion_forged_block"
    public = "The node's data does not fit the block's own hashes."


class UnprovableBlock(Unusable):
    """A part of the block cannot be compared with its hashes: a type or a field that we do not know, or one that is missing.

    The chain's setting `unprovable_blocks` decides whether it is refused, as here, or told and booked.
    """

    code = "ingestion_unprovable_block"
    public = "A part of the block cannot be proved."


class LogsOmitted(Unusable):
    """`eth_getLogs` did not name a log that the block's proved receipts hold: the provider leaves logs out."""

    code = "ingestion_logs_omitted"
    public = "The provider's list of logs is not complete."


class FeeUntold(Unusable):
    """A receipt of our own transaction lacks the fee for data on the chain below (`l1_fee`): it would be booked too low."""

    code = "ingestion_fee_untold"
    public = "A receipt does not tell the whole fee."


class NodeCannotTrace(InvariantViolated):
    """The configured way to see value inside calls is not offered by the node."""

    code = "ingestion_node_cannot_trace"
    public = "The node does not offer the configured traces."
