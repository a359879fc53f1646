"""What policy refuses."""

from __future__ import annotations

from custody.kernel.errors import InvariantViolated, NotFound, Refused, Unavailable


class PolicyUnknown(Unavailable):
    """No copy of the signer's policy has been adopted yet; it arrives with the first contact to the signer."""

    code = "policy_unknown"
    public = "The approval policy is not known yet; try again shortly."


class PolicyVersionUnknown(NotFound):
    """This version of the policy was never adopted."""

    code = "policy_version_unknown"
    public = "No such version of the approval policy."


class PolicyDenies(Refused):
    """No quorum could ever approve this."""

    code = "policy_denies"
    public = "The approval policy does not allow this."


class PolicyRewound(InvariantViolated):
    """The signer shows an older policy, or another one under a version that we know: it was rolled back or replaced."""

    code = "policy_rewound"
