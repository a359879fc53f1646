"""A line of a batch under the rules: approved by whoever approved the batch, and as large as all its asset's lines together."""

from dataclasses import replace

from signer.policy.document import Policy
from signer.policy.effect import Effect, effect_of
from signer.protocol.intent import Intent
from signer.state import State


def effect_of_line(state: State, intent: Intent, digest: bytes) -> Effect:
    """Return what an intent does; caps see all that its batch moves of the same asset, velocity the line alone."""
    effect = effect_of(intent)
    batch = state.batches.get(state.batch_of.get(digest, b""))
    if batch is None:
        return effect
    return replace(effect, amount=batch.sums[(effect.chain, effect.vault, effect.asset)])


def approved_with_batch(state: State, policy: Policy, digest: bytes) -> frozenset[str]:
    """Return who approved the batch that this digest is a line of, as long as the policy is the one that they approved under."""
    batch = state.batches.get(state.batch_of.get(digest, b""))
    if batch is None or batch.batch.policy_version != policy.version:
        return frozenset()
    return batch.approved
