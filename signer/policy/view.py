"""The policy in force as it goes over the wire."""

from signer.policy.document import Policy
from signer.policy.groups import Demand
from signer.policy.rules import AllowRule, DenyRule
from signer.protocol.policy_messages import (
    AddressListView,
    ApproverView,
    CosignedView,
    DemandView,
    DenyRuleView,
    GovernanceView,
    HoursView,
    ListedAddressView,
    NetworkView,
    PendingPolicyView,
    PolicyView,
    RuleView,
    WindowView,
)


def view_policy(policy: Policy, pending: tuple[PendingPolicyView, ...]) -> PolicyView:
    """Return everything that the policy says, and the change that waits."""
    return PolicyView(
        version=policy.version,
        approver_set_version=policy.approver_set_version,
        policy_hash=policy.hash.hex(),
        networks=tuple(NetworkView(chain=name, passphrase=text) for name, text in policy.networks.items()),
        approvers=tuple(
            ApproverView(id=one.id, keys=one.keys, groups=one.groups) for one in policy.approvers.values()
        ),
        address_book=tuple(
            AddressListView(
                name=name,
                entries=tuple(
                    ListedAddressView(chain=one.chain, address=one.address, label=one.label)
                    for one in entries
                ),
            )
            for name, entries in policy.address_book.items()
        ),
        cosigned=tuple(
            CosignedView(account=one.account, chain=one.chain, key=one.key)
            for one in sorted(policy.cosigned, key=lambda one: (one.chain, one.account))
        ),
        governance=GovernanceView(
            approvals=_demands(policy.governance.approvals), cool_down_s=policy.governance.cool_down_s
        ),
        deny=tuple(_deny(rule) for rule in policy.deny),
        allow=tuple(_allow(rule) for rule in policy.allow),
        pending=pending,
    )


def _demands(demands: tuple[Demand, ...]) -> tuple[DemandView, ...]:
    return tuple(DemandView(group=one.group, threshold=one.threshold) for one in demands)


def _deny(rule: DenyRule) -> DenyRuleView:
    return DenyRuleView(
        id=rule.id,
        org=rule.scope.org,
        vault=rule.scope.vault,
        key=rule.scope.key,
        chain=rule.scope.chain,
        kind=rule.scope.kind,
        asset=rule.scope.asset,
        destinations=rule.scope.destinations,
    )


def _allow(rule: AllowRule) -> RuleView:
    return RuleView(
        id=rule.id,
        org=rule.scope.org,
        vault=rule.scope.vault,
        key=rule.scope.key,
        chain=rule.scope.chain,
        kind=rule.scope.kind,
        asset=rule.scope.asset,
        destinations=rule.scope.destinations,
        amount_max=rule.amount_max,
        fee_max=rule.fee_max,
        windows=tuple(
            WindowView(seconds=one.seconds, amount_max=one.amount_max, count_max=one.count_max)
            for one in rule.windows
        ),
        hours=tuple(HoursView(days=one.days, start=one.start, end=one.end) for one in rule.hours),
        approvals=_demands(rule.approvals),
        cool_down_s=rule.cool_down_s,
    )
