"""`custody approve`: read an intent's own bytes, see every field, sign the digest computed here with one's own key.

The API may be hostile: nothing is signed that this command did not decode itself, and what is shown comes from the very bytes
whose digest is signed. The private key stays in a file of the approver's; it is never an argument, and never sent.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from cli.approve_batch import ReadBatch, read_batch, show_batch, show_row
from cli.approver_keys import KINDS, KeyFileFault, PrivateKey, create_key, load_key, public_hex, sign
from cli.intent_words import describe, plain
from signer.protocol import canonical
from signer.protocol.approvals import APPROVAL_TAG, BATCH_TAG, approval_message
from signer.protocol.intent import Intent

TIMEOUT_S = 30.0


class ApproveFault(Exception):
    """The command cannot go on. `str()` is one sentence for the approver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """An intent that waits for a decision."""

    id: str
    data: bytes
    """Canonical bytes."""
    approver_set_version: int


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command under `custody`."""
    _add_arguments(
        subparsers.add_parser("approve", help="see an intent's fields and sign a decision about it")
    )


def main(argv: list[str]) -> int:
    """Run the command by itself."""
    parser = argparse.ArgumentParser(prog="custody approve", description=__doc__)
    _add_arguments(parser)
    return run(parser.parse_args(argv))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="WITHDRAWAL | BATCH | list | keygen", nargs="?", help="what to decide about"
    )
    parser.add_argument("--api", metavar="URL", help="address of the API")
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help="file that holds the approver's API key"
    )
    parser.add_argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="PEM (PKCS#8) of an Ed25519 or P-256 key, or an Ed25519 seed in hex",
    )
    parser.add_argument("--approver", metavar="ID", help="the approver's name in the signer's policy")
    parser.add_argument("--reject", action="store_true", help="reject instead of approve; final")
    parser.add_argument("--yes", action="store_true", help="do not ask before signing")
    parser.add_argument(
        "--offline", type=Path, metavar="FILE", help="read canonical bytes; print the approval"
    )
    parser.add_argument(
        "--approver-set-version", type=int, metavar="N", help="with --offline: part of what is signed"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="with keygen: where the new key goes")
    parser.add_argument("--kind", choices=KINDS, default="ed25519", help="with keygen: the kind of key")
    parser.set_defaults(run=run)


def run(chosen: argparse.Namespace) -> int:
    """Carry out the command; returns 0 when done, 1 when not, 2 when it was called wrongly."""
    try:
        if chosen.offline is not None:
            return _decide_offline(chosen)
        if chosen.target == "keygen":
            return _keygen(chosen.kind, _needed(chosen.out, "--out"))
        _needed(chosen.target, "a withdrawal (or list, or keygen)")
        with _open_api(_needed(chosen.api, "--api"), chosen.token_file) as api:
            return _list(api) if chosen.target == "list" else _decide(api, chosen)
    except (ApproveFault, KeyFileFault) as fault:
        print(f"custody approve: {fault}", file=sys.stderr)
        return 2
    except canonical.MalformedIntent as error:
        print(
            f"custody approve: these bytes are not an intent ({error}); nothing was signed", file=sys.stderr
        )
        return 1
    except httpx.HTTPError as error:
        print(f"custody approve: the API cannot be reached: {type(error).__name__}", file=sys.stderr)
        return 1


def _decide(api: httpx.Client, chosen: argparse.Namespace) -> int:
    approver = _needed(chosen.approver, "--approver")
    key = load_key(_needed(chosen.key_file, "--key-file"))
    if str(chosen.target).startswith("bat_"):
        return _decide_batch(api, chosen, approver, key)
    body = _answer(api.get(f"/v1/approvals/{chosen.target}"))
    if body is None:
        return 1
    pending = _read_pending(body)
    digest = canonical.digest(pending.data)
    if body.get("digest", digest.hex()) != digest.hex():
        print("The API names another digest than these bytes have. Nothing was signed.", file=sys.stderr)
        return 1
    intent = canonical.decode(pending.data)
    word = "reject" if chosen.reject else "approve"
    show_intent(intent, digest, pending.approver_set_version)
    if not chosen.yes and not _confirm(word):
        print("Nothing was signed.")
        return 1
    approval = sign_decision(key, approver, word, digest, pending.approver_set_version)
    return _send(api, "/v1/approvals", chosen.target, approval, digest)


def _decide_batch(api: httpx.Client, chosen: argparse.Namespace, approver: str, key: PrivateKey) -> int:
    """Show every line and the sums, and sign once."""
    body = _answer(api.get(f"/v1/batch-approvals/{chosen.target}"))
    if body is None:
        return 1
    version = body.get("approver_set_version")
    if type(version) is not int or version < 1:
        raise ApproveFault("the API's answer has another form")
    found = _read_batch(body)
    if body.get("digest", found.digest.hex()) != found.digest.hex():
        print("The API names another digest than these bytes have. Nothing was signed.", file=sys.stderr)
        return 1
    word = "reject" if chosen.reject else "approve"
    show_batch(found, version)
    if not chosen.yes and not _confirm(word):
        print("Nothing was signed.")
        return 1
    approval = sign_decision(key, approver, word, found.digest, version, BATCH_TAG)
    return _send(api, "/v1/batch-approvals", chosen.target, approval, found.digest)


def _read_batch(body: dict[str, Any]) -> ReadBatch:
    try:
        return read_batch(body)
    except (ValueError, TypeError) as error:
        raise ApproveFault(f"the API's answer has another form ({plain(error)})") from error


def _send(api: httpx.Client, path: str, target: str, approval: dict[str, str], digest: bytes) -> int:
    """Bring a signed decision to the API, under a key that follows from it, and say what came of it."""
    approver, word = approval["approver"], approval["decision"]
    command = hashlib.sha256(f"{target} {approver} {word} {digest.hex()}".encode()).hexdigest()
    sent = _answer(
        api.post(
            f"{path}/{target}/decisions",
            json=approval,
            headers={"Idempotency-Key": f"decision-{command[:40]}"},
        )
    )
    if sent is None:
        return 1
    states = sent.get("states", [sent.get("state", "?")])
    shown = ", ".join(dict.fromkeys(map(plain, states)))
    print(f"{word} by {approver} was recorded; state: {shown}")
    return 0


def _decide_offline(chosen: argparse.Namespace) -> int:
    approver = _needed(chosen.approver, "--approver")
    key = load_key(_needed(chosen.key_file, "--key-file"))
    version = _needed(chosen.approver_set_version, "--approver-set-version")
    try:
        data = chosen.offline.read_bytes()
    except OSError as error:
        raise ApproveFault(f"{chosen.offline} cannot be read: {error.strerror}") from error
    digest = canonical.digest(data)
    show_intent(canonical.decode(data), digest, version)
    word = "reject" if chosen.reject else "approve"
    if not chosen.yes and not _confirm(word):
        print("Nothing was signed.", file=sys.stderr)
        return 1
    print(json.dumps(sign_decision(key, approver, word, digest, version)))
    return 0


def _list(api: httpx.Client) -> int:
    batches = _list_rows(api, "/v1/batch-approvals", _show_batch_row)
    single = _list_rows(api, "/v1/approvals", _show_row)
    if batches is None or single is None:
        return 1
    print(f"{batches + single} waiting")
    return 0


def _list_rows(api: httpx.Client, path: str, show: Callable[[object], None]) -> int | None:
    """Print what waits behind a path; how much that is, or None after the API's problem."""
    cursor: dict[str, str] = {}
    found = 0
    while True:
        body = _answer(api.get(path, params={"state": "pending", **cursor}))
        if body is None:
            return None
        rows = body.get("data")
        if not isinstance(rows, list):
            raise ApproveFault("the API's answer has another form")
        for row in rows:
            show(row)
        found += len(rows)
        following = body.get("next_cursor")
        if not isinstance(following, str) or not rows:
            return found
        cursor = {"cursor": following}


def _show_batch_row(row: object) -> None:
    try:
        show_row(row)
    except (ValueError, TypeError) as error:
        raise ApproveFault(f"the API's answer has another form ({plain(error)})") from error


def _show_row(row: object) -> None:
    """Print one line about a pending intent, from its own bytes."""
    if not isinstance(row, dict):
        raise ApproveFault("the API's answer has another form")
    pending = _read_pending(row)
    intent = canonical.decode(pending.data)
    facts = dict(describe(intent))
    what = facts.get("amount") or facts["limit"]
    to = facts.get("destination", facts.get("asset", ""))
    until = facts["expires_at"]
    missing = plain(row.get("missing", "?"))
    print(
        f"{plain(pending.id)}  {facts['kind']}  {what}  to {to}  until {until}  {missing} approvals missing"
    )


def _keygen(kind: str, out: Path) -> int:
    print(public_hex(create_key(kind, out)))
    return 0


def sign_decision(
    key: PrivateKey,
    approver: str,
    decision: str,
    digest: bytes,
    approver_set_version: int,
    tag: bytes = APPROVAL_TAG,
) -> dict[str, str]:
    """Return the signed decision about the intent, or the batch, with this digest, as the API takes it."""
    message = approval_message(
        decision=decision, digest=digest, approver_set_version=approver_set_version, tag=tag
    )
    return {
        "approver": approver,
        "public_key": public_hex(key),
        "decision": decision,
        "signature": sign(key, message).hex(),
    }


def show_intent(intent: Intent, digest: bytes, approver_set_version: int) -> None:
    """Print every field of the intent and its digest, to the approver's eyes and not into a pipe."""
    rows = [*describe(intent), ("approver_set", str(approver_set_version))]
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        print(f"  {name:<{width}}  {text}", file=sys.stderr)
    whole = digest.hex()
    groups = " ".join(whole[start : start + 8] for start in range(0, len(whole), 8))
    print(f"  {'digest':<{width}}  {groups}", file=sys.stderr)


def _confirm(word: str) -> bool:
    print(
        f'Type "{word}" to sign this decision, anything else to stop: ', end="", file=sys.stderr, flush=True
    )
    return sys.stdin.readline().strip() == word


def _open_api(url: str, token_file: Path | None) -> httpx.Client:
    headers = {"Accept": "application/json"}
    if token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {token_file.read_text(encoding='ascii').strip()}"
        except (OSError, UnicodeDecodeError) as error:
            raise ApproveFault(f"the token file {token_file} cannot be read") from error
    return httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S, trust_env=False)


def _answer(response: httpx.Response) -> dict[str, Any] | None:
    """Return the body of a success, or None after printing the API's problem."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if response.is_success and isinstance(body, dict):
        return body
    problem = body if isinstance(body, dict) else {}
    code = plain(problem.get("code", problem.get("type", "")))
    said = plain(problem.get("detail", problem.get("title", "no reason given")))
    print(f"custody approve: the API refused ({response.status_code} {code}): {said}", file=sys.stderr)
    return None


def _read_pending(body: dict[str, Any]) -> Pending:
    name, encoded, version = body.get("id"), body.get("intent"), body.get("approver_set_version")
    if not isinstance(name, str) or not isinstance(encoded, str) or type(version) is not int or version < 1:
        raise ApproveFault("the API's answer has another form")
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise ApproveFault("the API's intent is not base64") from error
    return Pending(id=name, data=data, approver_set_version=version)


def _needed(value: Any, option: str) -> Any:
    if value is None:
        raise ApproveFault(f"{option} is required")
    return value
