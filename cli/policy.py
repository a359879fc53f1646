"""`custody policy`: read the signer's policy, ask why it decides as it does, and change it with its quorum.

Everything is asked of the signer itself, over its socket: the platform is not believed about who has to approve what. What an
approver signs is computed here, from the document in the approver's own hands.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import time
from dataclasses import fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from cli.approve import ApproveFault
from cli.approver_keys import KeyFileFault, load_key, public_hex, sign
from cli.decisions import read_decision
from cli.intent_words import plain
from cli.policy_words import compare, describe, explain, moment
from cli.signer_socket import TIMEOUT_S, SignerFault, ask
from signer.policy.document import Policy, parse_policy
from signer.protocol import governance, messages, policy_messages
from signer.protocol.approvals import GOVERNANCE_TAG, Approval, approval_message
from signer.protocol.canonical import MalformedIntent
from signer.protocol.governance import KeyCreate, KeyStateChange, PolicyChange, SigningResume
from signer.protocol.stops import Resume, Resumed
from signer.refusal import StartupFault

VALID_S = 7 * 86_400
_SKEW_S = 60
"""An intent is valid from a little before it was made, for a signer whose clock is behind ours."""


class PolicyFault(Exception):
    """The command cannot go on. `str()` is one sentence."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command under `custody`."""
    parser = subparsers.add_parser("policy", help="read, explain and change the signer's policy")
    commands = parser.add_subparsers(dest="policy_command", metavar="COMMAND", required=True)
    for name, run_it, text, options in _COMMANDS:
        one = commands.add_parser(name, help=text)
        for option in options:
            _OPTIONS[option](one)
        one.set_defaults(run=run, act=run_it)


def run(chosen: argparse.Namespace) -> int:
    """Carry out the command; returns 0 when done, 1 when the signer or a person says no, 2 when it was called wrongly."""
    try:
        code: int = chosen.act(chosen)
    except (PolicyFault, SignerFault, ApproveFault, KeyFileFault, StartupFault) as fault:
        print(f"custody policy: {fault}", file=sys.stderr)
        return 2
    except MalformedIntent as error:
        print(f"custody policy: this is no governance intent ({error})", file=sys.stderr)
        return 1
    except httpx.HTTPError as error:
        print(f"custody policy: the API cannot be reached: {type(error).__name__}", file=sys.stderr)
        return 1
    return code


def _show(chosen: argparse.Namespace) -> int:
    view = ask(chosen.socket, messages.GetPolicy(), policy_messages.PolicyView)
    document = _document(chosen.socket, chosen.version or view.version)
    if chosen.raw:
        sys.stdout.write(document.decode("ascii"))
    else:
        print("\n".join(describe(parse_policy(document))))
    return 0


def _status(chosen: argparse.Namespace) -> int:
    view = ask(chosen.socket, messages.GetPolicy(), policy_messages.PolicyView)
    print(f"version {view.version} is in force, approver set {view.approver_set_version}")
    print(f"document {view.policy_hash}")
    for waiting in view.pending:
        print(
            f"version {waiting.version} waits until {moment(waiting.effective_at)}; any approver can veto it"
        )
        print(f"document {waiting.policy_hash}")
        print("\n".join(_difference(chosen.socket, view.version, waiting.version)))
    if not view.pending:
        print("no change waits")
    return 0


def _explain(chosen: argparse.Namespace) -> int:
    if chosen.intent is not None:
        request = messages.Explain(intent=_read(chosen.intent), approvals=_approvals(chosen.approval))
    else:
        request = _from_api(_needed(chosen.withdrawal, "a withdrawal or --intent"), chosen)
    told = ask(chosen.socket, request, messages.Explained)
    print("\n".join(explain(told)))
    return 1 if told.verdict == "deny" else 0


def _propose(chosen: argparse.Namespace) -> int:
    document = _read(chosen.document)
    new = parse_policy(document)
    view = ask(chosen.socket, messages.GetPolicy(), policy_messages.PolicyView)
    if new.version != view.version + 1:
        raise PolicyFault(
            f"version {view.version} is in force, so the document's version is {view.version + 1}"
        )
    current = parse_policy(_document(chosen.socket, view.version))
    print("\n".join(compare(current, new)))
    intent = PolicyChange(
        **_header(chosen, view.version),
        version=new.version,
        policy_hash=hashlib.sha256(document).hexdigest(),
    )
    return _write(chosen.out, governance.encode(intent), current)


def _propose_key(chosen: argparse.Namespace) -> int:
    view = ask(chosen.socket, messages.GetPolicy(), policy_messages.PolicyView)
    intent = KeyCreate(
        **_header(chosen, view.version),
        org=chosen.org,
        vault=chosen.vault,
        curve=chosen.curve,
        label=chosen.label,
        state=chosen.state,
    )
    return _write(chosen.out, governance.encode(intent), None)


def _propose_key_state(chosen: argparse.Namespace) -> int:
    view = ask(chosen.socket, messages.GetPolicy(), policy_messages.PolicyView)
    key = ask(chosen.socket, messages.PublicKey(key_id=chosen.key), messages.KeyView)
    print(f"key {key.key_id} of {key.org}/{key.vault}, {key.address}, is {key.state}")
    intent = KeyStateChange(
        **_header(chosen, view.version),
        org=key.org,
        vault=key.vault,
        key_id=key.key_id,
        state=chosen.state,
        reason=chosen.reason,
        successor=chosen.successor or "",
    )
    return _write(chosen.out, governance.encode(intent), None)


def _approve(chosen: argparse.Namespace) -> int:
    """Sign a decision about a governance intent. Needs no connection: what is shown comes from files in the approver's hands."""
    data = _read(_needed(chosen.intent, "--intent"))
    intent = governance.decode(data)
    for field in fields(intent):
        print(f"  {field.name:<15} {plain(getattr(intent, field.name))}", file=sys.stderr)
    if isinstance(intent, PolicyChange):
        _show_document(intent, chosen)
    word = "reject" if chosen.reject else "approve"
    digest = governance.digest(data)
    print(f"  {'digest':<15} {digest.hex()}", file=sys.stderr)
    key = load_key(chosen.key_file)
    if not chosen.yes and not _confirm(word):
        print("Nothing was signed.", file=sys.stderr)
        return 1
    message = approval_message(
        decision=word,
        digest=digest,
        approver_set_version=chosen.approver_set_version,
        tag=GOVERNANCE_TAG,
    )
    approval = {
        "approver": chosen.approver,
        "public_key": public_hex(key),
        "decision": word,
        "signature": sign(key, message).hex(),
    }
    print(json.dumps(approval))
    return 0


def _submit(chosen: argparse.Namespace) -> int:
    """Bring the intent and its approvals to the signer; a rejection among them ends it."""
    data, approvals = _read(_needed(chosen.intent, "--intent")), _approvals(chosen.approval)
    intent = governance.decode(data)
    if any(one.decision == "reject" for one in approvals):
        ask(chosen.socket, messages.Veto(intent=data, approvals=approvals), messages.Vetoed)
        print("vetoed: it can never be carried out")
    elif isinstance(intent, PolicyChange):
        document = _read(_needed(chosen.document, "--document"))
        request = messages.ChangePolicy(intent=data, document=document, approvals=approvals)
        changed = ask(chosen.socket, request, policy_messages.PolicyChanged)
        print(f"version {changed.version} takes effect at {moment(changed.effective_at)}")
    elif isinstance(intent, SigningResume):
        ended = ask(chosen.socket, Resume(intent=data, approvals=approvals), Resumed)
        print(f"the stop {ended.order_digest} has ended")
    else:
        key = ask(chosen.socket, messages.ChangeKey(intent=data, approvals=approvals), messages.KeyView)
        print(f"key {key.key_id} of {key.org}/{key.vault}, {key.address}, is {key.state}")
    return 0


def _show_document(intent: PolicyChange, chosen: argparse.Namespace) -> None:
    """Print what the new document says; raises PolicyFault unless it is the one that the intent names."""
    document = _read(_needed(chosen.document, "--document"))
    if hashlib.sha256(document).hexdigest() != intent.policy_hash:
        raise PolicyFault("the document is not the one that the intent names; nothing was signed")
    new = parse_policy(document)
    lines = describe(new) if chosen.current is None else compare(parse_policy(_read(chosen.current)), new)
    print("\n".join(lines), file=sys.stderr)


def _difference(path: Path, current: int, new: int) -> list[str]:
    return compare(parse_policy(_document(path, current)), parse_policy(_document(path, new)))


def _document(path: Path, version: int) -> bytes:
    return ask(path, messages.GetPolicyDocument(version=version), policy_messages.PolicyDocument).document


def _header(chosen: argparse.Namespace, policy_version: int) -> dict[str, Any]:
    now = int(time.time())
    return {
        "request_id": str(uuid4()),
        "initiator": chosen.initiator,
        "policy_version": policy_version,
        "not_before": now - _SKEW_S,
        "expires_at": now + chosen.valid_s,
    }


def _write(out: Path, data: bytes, current: Policy | None) -> int:
    try:
        with out.open("xb") as file:
            file.write(data)
    except OSError as error:
        raise PolicyFault(f"{out} cannot be created: {error.strerror}") from error
    print(f"intent {governance.digest(data).hex()} is in {out}")
    if current is not None:
        print(f"it needs the approvals that version {current.version} asks for: custody policy approve")
    return 0


def _from_api(withdrawal: str, chosen: argparse.Namespace) -> messages.Explain:
    """What the platform holds about a withdrawal: the intent's bytes and the decisions so far."""
    token = _read(_needed(chosen.token_file, "--token-file")).decode("ascii", "replace").strip()
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{_needed(chosen.api, '--api')}/v1/approvals/{withdrawal}"
    response = httpx.get(url, headers=headers, timeout=TIMEOUT_S, trust_env=False)
    if response.is_error:
        raise PolicyFault(f"the API refused ({response.status_code})")
    try:
        body = response.json()
        return messages.Explain(
            intent=base64.b64decode(body["intent"], validate=True),
            approvals=tuple(read_decision(each) for each in body["decisions"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyFault("the API's answer has another form") from error


def _approvals(paths: list[Path] | None) -> tuple[Approval, ...]:
    try:
        return tuple(read_decision(json.loads(_read(path))) for path in paths or ())
    except (ValueError, KeyError, TypeError) as error:
        raise PolicyFault("an approval file does not hold what `approve` prints") from error


def _confirm(word: str) -> bool:
    print(
        f'Type "{word}" to sign this decision, anything else to stop: ', end="", file=sys.stderr, flush=True
    )
    return sys.stdin.readline().strip() == word


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyFault(f"{path} cannot be read: {error.strerror}") from error


def _needed(value: Any, option: str) -> Any:
    if value is None:
        raise PolicyFault(f"{option} is required")
    return value


def _option(*names: str, **settings: Any) -> Any:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument(*names, **settings)

    return add


_OPTIONS = {
    "socket": _option("--socket", type=Path, required=True, metavar="PATH", help="the signer's socket"),
    "version": _option("--version", type=int, metavar="N", help="another version than the one in force"),
    "raw": _option("--raw", action="store_true", help="the document's bytes instead of words"),
    "withdrawal": _option("withdrawal", nargs="?", metavar="WITHDRAWAL", help="id; needs --api"),
    "api": _option("--api", metavar="URL", help="address of the API"),
    "token_file": _option("--token-file", type=Path, metavar="FILE", help="file that holds an API key"),
    "intent": _option("--intent", type=Path, metavar="FILE", help="canonical bytes"),
    "approval": _option(
        "--approval", type=Path, action="append", metavar="FILE", help="what an approver signed; repeatable"
    ),
    "new": _option("--document", type=Path, required=True, metavar="FILE", help="the new policy"),
    "document": _option("--document", type=Path, metavar="FILE", help="the new policy of a policy_change"),
    "current": _option(
        "--current", type=Path, metavar="FILE", help="the policy in force, to see changes only"
    ),
    "initiator": _option("--initiator", required=True, metavar="ID", help="who asks; may not approve"),
    "valid_s": _option(
        "--valid-s", type=int, default=VALID_S, metavar="N", help="seconds to collect approvals in"
    ),
    "out": _option("--out", type=Path, required=True, metavar="FILE", help="where the intent goes"),
    "key_file": _option("--key-file", type=Path, required=True, metavar="FILE", help="the approver's key"),
    "approver": _option("--approver", required=True, metavar="ID", help="name in the policy"),
    "set_version": _option(
        "--approver-set-version", type=int, required=True, metavar="N", help="part of what is signed"
    ),
    "reject": _option("--reject", action="store_true", help="reject instead of approve; final"),
    "yes": _option("--yes", action="store_true", help="do not ask before signing"),
    "key": _option("--key", required=True, metavar="ID", help="key id"),
    "to_state": _option("--state", required=True, choices=governance.KEY_STATES, help="state to reach"),
    "reason": _option("--reason", required=True, metavar="TEXT", help="why, for the record"),
    "successor": _option("--successor", metavar="ID", help="key that a deactivated one may still send to"),
    "org": _option("--org", required=True, help="tenant"),
    "vault": _option("--vault", required=True, help="group of keys"),
    "curve": _option("--curve", required=True, choices=messages.CURVES, help="curve"),
    "label": _option("--label", required=True, help="free name"),
    "born": _option(
        "--state", default="active", choices=("active", "pre_activation"), help="state it is born in"
    ),
}
_COMMANDS = (
    ("show", _show, "print the policy in words", ("socket", "version", "raw")),
    ("status", _status, "which version is in force and what waits", ("socket",)),
    (
        "explain",
        _explain,
        "which rule decides about an intent and what is missing",
        ("withdrawal", "socket", "intent", "approval", "api", "token_file"),
    ),
    (
        "propose",
        _propose,
        "show what a new document changes and write the intent",
        ("socket", "new", "initiator", "valid_s", "out"),
    ),
    (
        "propose-key",
        _propose_key,
        "write the intent to create a key",
        ("socket", "org", "vault", "curve", "label", "born", "initiator", "valid_s", "out"),
    ),
    (
        "propose-key-state",
        _propose_key_state,
        "write the intent to let a key into another state",
        ("socket", "key", "to_state", "reason", "successor", "initiator", "valid_s", "out"),
    ),
    (
        "approve",
        _approve,
        "see a governance intent and sign a decision about it",
        ("intent", "document", "current", "key_file", "approver", "set_version", "reject", "yes"),
    ),
    (
        "submit",
        _submit,
        "bring intent and approvals to the signer",
        ("socket", "intent", "document", "approval"),
    ),
)
