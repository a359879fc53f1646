"""Stops of the signer itself: one approver's signed order, made and sent from a machine that the platform has no hand in.

The platform may be the very thing that has to be stopped. So nothing is asked of it: the order is written here, signed with the
approver's own key file, and given to the signer's socket.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from cli.approver_keys import KeyFileFault, load_key, public_hex, sign
from cli.intent_words import plain
from cli.policy_words import moment
from cli.signer_socket import SignerFault, ask
from custody.kernel.assetid import MalformedAssetId, parse_asset_id
from signer.protocol import governance, messages, policy_messages, stops
from signer.protocol.approvals import STOP_TAG, Approval, RawSignature, approval_message
from signer.protocol.canonical import MalformedIntent
from signer.protocol.governance import SigningResume
from signer.protocol.stops import ListStops, Stop, StopList, StopOrder, Stopped

VALID_S = 600
"""For how long an order that was signed may be given."""
RESUME_VALID_S = 7 * 86_400
_SKEW_S = 60
_FAULTS = (SignerFault, KeyFileFault, MalformedIntent, MalformedAssetId, OSError)


def stop(chosen: argparse.Namespace) -> int:
    """Sign an order and give it to the signer; returns 0 when it counts, 1 when the person says no, 2 when it cannot be given."""
    try:
        needed(chosen, "stop", "org", "approver", "key_file")
        order = stops.encode(_order(chosen))
        key = load_key(chosen.key_file)
        view = ask(chosen.signer, messages.GetPolicy(), policy_messages.PolicyView)
        digest = stops.digest(order)
        place = f"{chosen.scope} {plain(chosen.subject or '')}".rstrip()
        print(f"  the signer is to sign nothing more for {plain(chosen.org)}: {place}", file=sys.stderr)
        print("  only the quorum that may change its policy can end this", file=sys.stderr)
        print(f"  digest  {digest.hex()}", file=sys.stderr)
        if not chosen.yes and not _confirm("stop"):
            print("Nothing was signed.", file=sys.stderr)
            return 1
        message = approval_message(
            decision="approve",
            digest=digest,
            approver_set_version=view.approver_set_version,
            tag=STOP_TAG,
        )
        approval = Approval(
            approver=chosen.approver,
            public_key=public_hex(key),
            decision="approve",
            evidence=RawSignature(signature=sign(key, message)),
        )
        stopped = ask(chosen.signer, Stop(order=order, approval=approval), Stopped)
    except _FAULTS as fault:
        return _complain("stop", fault)
    print(f"stopped by order {stopped.order_digest}")
    return 0


def write_resume(chosen: argparse.Namespace) -> int:
    """Write the intent that ends a stop, for its quorum to approve; returns 0 when it is written."""
    try:
        needed(chosen, "resume", "org", "initiator", "out")
        view = ask(chosen.signer, messages.GetPolicy(), policy_messages.PolicyView)
        now = int(time.time())
        intent = SigningResume(
            request_id=str(uuid4()),
            initiator=chosen.initiator,
            policy_version=view.version,
            not_before=now - _SKEW_S,
            expires_at=now + RESUME_VALID_S,
            org=chosen.org,
            stop=chosen.switch,
            reason=chosen.reason,
        )
        data = governance.encode(intent)
        with chosen.out.open("xb") as file:
            file.write(data)
    except _FAULTS as fault:
        return _complain("resume", fault)
    print(f"intent {governance.digest(data).hex()} is in {chosen.out}")
    print("the quorum of governance approves it (custody policy approve); then: custody policy submit")
    return 0


def show(chosen: argparse.Namespace) -> int:
    """Print the stops that stand in the signer."""
    try:
        needed(chosen, "switches", "org")
        found = ask(chosen.signer, ListStops(org=chosen.org), StopList)
    except _FAULTS as fault:
        return _complain("switches", fault)
    for each in found.stops:
        row = {
            "order": each.order_digest,
            "scope": each.scope,
            "chain": each.chain,
            "subject": each.subject,
            "reason": each.reason,
            "approver": each.approver,
            "since": moment(each.since),
        }
        print(json.dumps(row) if chosen.json else "  ".join(plain(text) for text in row.values() if text))
    if not chosen.json:
        print(f"{found.total} stand in the signer")
    return 0


def needed(chosen: argparse.Namespace, command: str, *names: str) -> None:
    """Raise SignerFault unless these options were given."""
    for name in names:
        if getattr(chosen, name) is None:
            option = name.replace("_", "-")
            raise SignerFault(f"--{option} is required to {command} by the signer")


def _order(chosen: argparse.Namespace) -> StopOrder:
    now, subject = int(time.time()), chosen.subject or ""
    place: dict[str, Any] = {"chain": "", "subject": subject}
    if chosen.scope == "chain":
        place = {"chain": subject, "subject": ""}
    elif chosen.scope == "asset":
        asset = parse_asset_id(subject)
        place = {"chain": asset.chain, "subject": asset.reference.removeprefix("erc20:")}
    return StopOrder(
        request_id=str(uuid4()),
        not_before=now - _SKEW_S,
        expires_at=now + VALID_S,
        org=chosen.org,
        scope=chosen.scope,
        reason=chosen.reason,
        **place,
    )


def _confirm(word: str) -> bool:
    print(f'Type "{word}" to sign this order, anything else to stop: ', end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() == word


def _complain(command: str, fault: Exception) -> int:
    said = f"the order cannot be written ({fault})" if isinstance(fault, MalformedIntent) else str(fault)
    print(f"custody {command}: {said}", file=sys.stderr)
    return 2


def add_signer_options(parser: argparse.ArgumentParser) -> None:
    """What every one of these commands takes when it speaks to the signer."""
    parser.add_argument(
        "--signer", type=Path, metavar="PATH", help="the signer's socket, instead of the platform"
    )
    parser.add_argument("--org", help="with --signer: how the signer calls the tenant (tenant-N)")
