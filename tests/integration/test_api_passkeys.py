"""Passkeys in a real browser: created on one page, used on the other, judged by the platform and by the signer's own code."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest

from custody.approvals import service as approvals
from custody.db.session import Database
from custody.identity import people
from custody.policy import service as policies
from custody.policy.model import ApproverKey
from custody.signing.evidence import build_approval, read_key
from signer.evidence import verify_evidence
from signer.policy.approver_keys import parse_key
from signer.protocol.approvals import BATCH_TAG, Assertion, approval_message
from signer.protocol.approver_keys import Passkey
from tests.fakes.browser import Browser, find_browser
from tests.fakes.identity_provider import running_provider
from tests.integration.api_harness import STRANGER, XLM, Harness, make_policy, running
from tests.integration.api_server import served
from tests.integration.test_api_identity import get, issuer_of, post, roles

PROGRAM = find_browser()
needs_browser = pytest.mark.skipif(
    PROGRAM is None, reason="no Chromium on this machine (apt-get install chromium)"
)


@pytest.fixture
async def api(database: Database) -> AsyncIterator[Harness]:
    async with running(database) as harness:
        yield harness


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(str(PROGRAM), tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser without an authenticator."""
    yield chromium
    chromium.call("WebAuthn.disable")


def on_localhost(url: str) -> str:
    """Passkeys belong to domains, and of all addresses only this name needs no encryption."""
    return url.replace("127.0.0.1", "localhost")


def register(browser: Browser, url: str, algorithm: str = "ES256") -> dict[str, Any]:
    """What a person does on the page for new passkeys, with a device that knows one algorithm; the entry that it shows."""
    browser.open(f"{url}/approvers/new")
    known = f"ALGORITHMS[name] !== '{algorithm}'"
    browser.evaluate(f"for (const name of Object.keys(ALGORITHMS)) if ({known}) delete ALGORITHMS[name]")
    browser.evaluate("at('approver').value = 'alice'; at('create').click()")
    browser.wait_for("at('said').textContent")
    said = browser.evaluate("at('said').textContent")
    assert said == "A key of alice, for the next policy:"
    entry: dict[str, Any] = json.loads(browser.evaluate("at('entry').textContent"))
    return entry


def look(browser: Browser, url: str, withdrawal: str, token: str) -> str:
    """Open the page of a withdrawal; what it says when it shows the intent or refuses to."""
    browser.open(f"{url}/approve/{withdrawal}")
    browser.evaluate(f"at('token').value = {json.dumps(token)}; at('show').click()")
    browser.wait_for("at('said').textContent || !at('intent').hidden")
    return str(browser.evaluate("at('said').textContent + at('fields').innerText"))


def press(browser: Browser, button: str) -> str:
    """Press a button; what the page says then."""
    browser.evaluate(f"at('{button}').click()")
    return str(browser.wait_for("at('said').textContent"))


async def adopt(api: Harness, key: Passkey) -> None:
    """Put a passkey among alice's keys, in the next policy."""
    old = make_policy()
    alice, *others = old.approvers
    keys: tuple[ApproverKey, ...] = (*alice.keys, read_key(key))
    people = (replace(alice, keys=keys), *others)
    async with api.app.db.unit_of_work(None) as uow:
        await policies.adopt(uow, replace(old, version=2, policy_hash="cd" * 32, approvers=people))


async def ask_withdrawal(api: Harness) -> str:
    body = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "amount": "1234", "destination": STRANGER}
    return str((await api.post("/v1/withdrawals", body)).json()["id"])


@needs_browser
@pytest.mark.parametrize(
    ("algorithm", "word"),
    [("ES256", "approve"), ("ES256", "reject"), ("EdDSA", "approve"), ("RS256", "approve")],
)
async def test_a_passkey_made_and_used_in_a_browser_satisfies_the_signers_own_code(
    api: Harness, browser: Browser, algorithm: str, word: str
) -> None:
    async with served(api.asgi) as address:
        url = on_localhost(address)
        await asyncio.to_thread(browser.add_authenticator)
        entry = await asyncio.to_thread(register, browser, url, algorithm)
        key = parse_key(entry, "the page's entry")
        assert isinstance(key, Passkey)
        assert (key.algorithm, key.rp_id, key.origins) == (algorithm, "localhost", (url,))
        await adopt(api, key)
        asked = await ask_withdrawal(api)
        shown = await asyncio.to_thread(look, browser, url, asked, api.tenant.keys["approve"])
        answer = (await api.get(f"/v1/approvals/{asked}")).json()
        for name, value in answer["fields"].items():
            assert name in shown
            assert name in ("not_before", "expires_at") or value in shown
        assert "0.0001234 XLM" in shown
        assert answer["digest"] in re.sub(r"\s", "", shown)
        said = await asyncio.to_thread(press, browser, word)
    assert said.startswith(f"{word} by alice was recorded"), said
    digest = bytes.fromhex(answer["digest"])
    async with api.app.db.read(api.tenant.id) as session:
        (decision,) = await approvals.list_for(session, digest)
    approval = build_approval(decision)
    message = approval_message(decision=word, digest=digest, approver_set_version=1)
    assert isinstance(approval.evidence, Assertion)
    assert verify_evidence(key, approval.evidence, message) > 0
    assert (approval.approver, approval.decision) == ("alice", word)
    (recorded,) = (await api.get(f"/v1/approvals/{asked}")).json()["decisions"]
    assert recorded["webauthn"]["credential_id"] == key.credential_id
    asked_again = await api.graphql(
        "query($id: ID!) { withdrawal(id: $id) { approvals { signature webauthn { credentialId } } } }",
        id=asked,
    )
    (seen,) = asked_again["data"]["withdrawal"]["approvals"]
    assert seen == {
        "signature": decision.signature,
        "webauthn": {"credentialId": key.credential_id},
    }


@needs_browser
async def test_without_the_persons_verification_the_browser_signs_nothing(
    api: Harness, browser: Browser
) -> None:
    async with served(api.asgi) as address:
        url = on_localhost(address)
        device = await asyncio.to_thread(browser.add_authenticator)
        entry = await asyncio.to_thread(register, browser, url)
        key = parse_key(entry, "the page's entry")
        assert isinstance(key, Passkey)
        await adopt(api, key)
        asked = await ask_withdrawal(api)
        await asyncio.to_thread(look, browser, url, asked, api.tenant.keys["approve"])
        await asyncio.to_thread(
            lambda: browser.call("WebAuthn.setUserVerified", authenticatorId=device, isUserVerified=False)
        )
        said = await asyncio.to_thread(press, browser, "approve")
    assert said.startswith("Nothing was recorded.")
    assert (await api.get(f"/v1/approvals/{asked}")).json()["decisions"] == []


@needs_browser
@pytest.mark.parametrize(
    ("lie", "said"),
    [
        ("answer.digest = '00'.repeat(32)", "names another digest"),
        ("answer.intent = btoa(atob(answer.intent).replace('1234', '1235'))", "names another digest"),
        ("answer.intent = btoa(atob(answer.intent).replace('{', '{ '))", "not in the canonical form"),
        ("answer.intent = btoa('[1]')", "not in the canonical form"),
        ("answer.intent = btoa('\\u00e9')", "no intent"),
        ("answer.approver_set_version = 0", "no version"),
    ],
)
async def test_a_lying_api_is_not_shown(api: Harness, browser: Browser, lie: str, said: str) -> None:
    asked = await ask_withdrawal(api)
    script = f"const honest = ask; ask = async (...all) => {{ const answer = await honest(...all); {lie}; return answer; }};"

    def meet(url: str) -> str:
        browser.open(f"{url}/approve/{asked}")
        browser.evaluate(script)
        browser.evaluate(f"at('token').value = '{api.tenant.keys['approve']}'; at('show').click()")
        told = str(browser.wait_for("at('said').textContent"))
        assert browser.evaluate("at('intent').hidden")
        return told

    async with served(api.asgi) as address:
        assert said in await asyncio.to_thread(meet, on_localhost(address))


async def ask_batch(api: Harness) -> str:
    line = {"wallet_id": api.tenant.wallet, "asset": XLM.text, "destination": STRANGER}
    body = {"lines": [{**line, "amount": "1234"}, {**line, "amount": "10000000"}]}
    return str((await api.post("/v1/withdrawal-batches", body)).json()["id"])


@needs_browser
async def test_a_batch_is_shown_whole_and_signed_once_in_a_browser(api: Harness, browser: Browser) -> None:
    async with served(api.asgi) as address:
        url = on_localhost(address)
        await asyncio.to_thread(browser.add_authenticator)
        key = parse_key(await asyncio.to_thread(register, browser, url), "the page's entry")
        assert isinstance(key, Passkey)
        await adopt(api, key)
        asked = await ask_batch(api)
        shown = await asyncio.to_thread(look, browser, url, asked, api.tenant.keys["approve"])
        answer = (await api.get(f"/v1/batch-approvals/{asked}")).json()
        assert shown.count(f"to {STRANGER}") == 2
        assert "1.0000000 XLM (10000000 atomic units) to" in shown
        assert "1.0001234 XLM (10001234 atomic units) from omnibus on stellar:devnet" in shown
        assert answer["digest"] in re.sub(r"\s", "", shown)
        said = await asyncio.to_thread(press, browser, "approve")
    assert said == "approve by alice was recorded; the lines are awaiting_approval.", said
    digest = bytes.fromhex(answer["digest"])
    async with api.app.db.read(api.tenant.id) as session:
        (decision,) = await approvals.list_for(session, digest)
    approval = build_approval(decision)
    message = approval_message(decision="approve", digest=digest, approver_set_version=1, tag=BATCH_TAG)
    assert verify_evidence(key, approval.evidence, message) > 0


@needs_browser
async def test_a_batch_whose_lines_are_others_is_not_shown(api: Harness, browser: Browser) -> None:
    asked = await ask_batch(api)
    token = api.tenant.keys["approve"]

    def meet(url: str, lie: str) -> str:
        browser.open(f"{url}/approve/{asked}")
        browser.evaluate(
            f"const honest = ask; ask = async (...all) => {{ const answer = await honest(...all); {lie}; return answer; }};"
        )
        browser.evaluate(f"at('token').value = '{token}'; at('show').click()")
        told = str(browser.wait_for("at('said').textContent"))
        assert browser.evaluate("at('intent').hidden")
        return told

    async with served(api.asgi) as address:
        for lie, said in (
            ("answer.lines.reverse()", "not those of the document"),
            ("answer.lines.pop()", "not those of the document"),
            ("answer.lines[1] = answer.lines[0]", "not those of the document"),
            (
                "answer.lines[0] = btoa(atob(answer.lines[0]).replace('1234', '1235'))",
                "not those of the document",
            ),
            (
                "answer.document = btoa(atob(answer.document).replace('10001234', '10001235'))",
                "The sums are not",
            ),
            ("answer.document = answer.lines[0]", "no batch"),
        ):
            assert said in await asyncio.to_thread(meet, on_localhost(address), lie), lie


@needs_browser
async def test_an_administrator_sees_an_action_and_confirms_it_in_a_browser(
    api: Harness, browser: Browser
) -> None:
    with running_provider() as provider:
        provider.publish("ec", "ES256")
        async with api.app.db.unit_of_work(api.tenant.id) as uow:
            await people.trust(uow, "operator:test", issuer_of(api, provider), plain_http=True)
        boss = provider.token("boss", sid="here", amr=["hwk"], **roles("boss"))
        other = provider.token("boss", sid="elsewhere", **roles("boss"))
        body = {"subject": "billing", "roles": ["viewer", "treasurer"], "expires_in_s": 172_800}
        async with served(api.asgi) as address:
            url = on_localhost(address)
            await asyncio.to_thread(browser.add_authenticator)
            entry = await asyncio.to_thread(register, browser, url)
            assert (await post(api, boss, "/v1/admin-passkeys", entry)).status_code == 201
            refused = (await post(api, boss, "/v1/api-keys", body, key="one")).json()
            page = url + refused["confirm_url"]
            asked = (await get(api, boss, refused["confirm_url"].replace("/confirm", "/v1/step-up"))).json()
            assert "unknown_step_up" in await asyncio.to_thread(look_at_action, browser, page, other)
            for lie, told in (
                ("answer.action = answer.action.replace('viewer', 'admin')", "names another digest"),
                ("answer.action = '[1]'", "no action"),
                ("answer.action = answer.action.replace('172800', '9007199254740993')", "cannot be shown"),
                ("answer.nonce = ''", "no challenge"),
            ):
                assert told in await asyncio.to_thread(look_at_action, browser, page, boss, lie)
            unseen = "plain('a\\u3164b\\u00a0c\\ufe0fd e\\u202e')"
            assert browser.evaluate(unseen) == r"a\u{3164}b\u{a0}c\u{fe0f}d e\u{202e}"
            shown = await asyncio.to_thread(look_at_action, browser, page, boss)
            for text in (
                "boss", "Issue a key to somebody else", "POST /v1/api-keys", "viewer, treasurer",
                "2 days (172800 seconds)", "billing", "one", asked["action"],
            ):  # fmt: skip
                assert text in shown
            assert asked["action_sha256"] in re.sub(r"\s", "", shown)
            assert (await asyncio.to_thread(press, browser, "confirm")).startswith("Confirmed.")
            again = await asyncio.to_thread(press, browser, "confirm")
            assert again.startswith("Nothing was confirmed.")
            assert "challenge_over" in again
            assert "confirmed already" in await asyncio.to_thread(look_at_action, browser, page, boss)
        assert (
            await post(api, boss, "/v1/api-keys", body | {"roles": ["admin"]}, key="one")
        ).status_code == 403
        assert (await post(api, boss, "/v1/api-keys", body, key="one")).status_code == 201


def look_at_action(browser: Browser, page: str, token: str, lie: str = "") -> str:
    """Open the page of an action; what it says when it shows the action or refuses to."""
    browser.open("about:blank")
    browser.open(page)
    browser.evaluate(
        f"const honest = ask; ask = async (...all) => {{ const answer = await honest(...all); {lie}; return answer; }};"
    )
    browser.evaluate(f"at('token').value = {json.dumps(token)}; at('show').click()")
    browser.wait_for("at('said').textContent || !at('action').hidden")
    return str(browser.evaluate("at('said').textContent + at('action').innerText"))


async def test_the_pages_run_nothing_but_themselves(api: Harness) -> None:
    for path in (
        "/approve/wdr_0192f0a81c7a7d10b5b0c8e6f7a1d2c3",
        "/confirm/stu_0192f0a81c7a7d10b5b0c8e6f7a1d2c3",
        "/approvers/new",
    ):
        answer = await api.http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"(src|href)=", answer.text)
        assert "innerHTML" not in answer.text
