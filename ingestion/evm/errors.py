"""Why a node's answer about an EVM block is not booked. All may be asked again, of this node or of another."""

from __future__ import annotations

from custody.kernel.errors import InvariantViolated, Unavailable


class ForgedBlock(Unavailable):
    """What the node says of a block contradicts the block's own hashes: a log left out, a receipt or a header altered."""

    code = "ingestion_forged_block"
    public = "The node's data does not fit the block's own hashes."


class UnprovableBlock(Unavailable):
    """A part of the block cannot be compared with its hashes: a type or a field that we do not know, or one that is missing.

    The chain's setting `unprovable_blocks` decides whether it is refused, as here, or told and booked.
    """

    code = "ingestion_unprovable_block"
    public = "A part of the block cannot be proved."


class StateUnavailable(Unavailable):
    """The node no longer has the balances of this block, so that what calls sent cannot be seen: an archive node is needed."""

    code = "ingestion_state_unavailable"
    public = "The node no longer knows the balances of this block."


class NodeCannotTrace(InvariantViolated):
    """The configured way to see value inside calls is not offered by the node."""

    code = "ingestion_node_cannot_trace"
    public = "The node does not offer the configured traces."
