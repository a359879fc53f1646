"""What an operator decides about access: which identity provider counts, first keys with roles, passkeys of administrators."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from cli.main import main
from custody.db.session import Database
from custody.identity import people
from custody.identity import service as identity
from custody.identity.keysets import Keysets
from custody.kernel.ids import TenantId
from tests.fakes.authenticator import Authenticator
from tests.fakes.identity_provider import AUDIENCE, running_provider
from tests.integration.test_operator import CONFIGURATION


async def test_an_operator_trusts_an_issuer_and_gives_the_first_keys(
    database: Database,
    tenant: TenantId,
    app_dsn: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configuration = tmp_path / "custody.toml"
    configuration.write_text(CONFIGURATION.format(url=app_dsn))
    monkeypatch.setenv("CUSTODY_CONFIG", str(configuration))

    async def custody(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, ["tenants", words[0], "--tenant", str(tenant), *words[1:]])
        return code, capsys.readouterr().out

    with running_provider() as provider:
        provider.publish("ec", "ES256")
        names = ("--issuer", provider.url, "--audience", AUDIENCE, "--jwks-uri", f"{provider.url}/jwks")
        claims = (
            "--subject-claim",
            "preferred_username",
            "--roles-claim",
            "groups",
            "--map",
            "desk=treasurer",
        )
        code, said = await custody("trust-issuer", *names, *claims, "--mfa", "amr=otp")
        assert code == 0, said
        token = provider.token("ada", groups=["desk"], amr=["otp"])
        ada = await people.identify(database, Keysets(lambda: 0.0), token)
        assert (ada.subject, ada.roles, ada.mfa, ada.tenant) == ("ada", {"treasurer"}, True, tenant)
        assert (await custody("trust-issuer", *names))[0] == 2
        assert (await custody("trust-issuer", *names[:3], "other", *names[4:], "--map", "desk=emperor"))[
            0
        ] == 2
        listed = json.loads((await custody("issuers"))[1])["issuers"]
        assert [row["audience"] for row in listed] == [AUDIENCE]
        assert (await custody("distrust-issuer", "--id", listed[0]["id"]))[0] == 0
        with pytest.raises(people.InvalidToken):
            await people.identify(database, Keysets(lambda: 0.0), token)

    out, entry = tmp_path / "key", tmp_path / "passkey.json"
    code, said = await custody(
        "issue-key", "--subject", "app", "--role", "viewer", "--days", "30", "--out", str(out)
    )
    assert code == 0, said
    key = await identity.authenticate(database, out.read_text().strip())
    assert (key.roles, key.expires_at is None) == ({"viewer"}, False)
    entry.write_text(json.dumps(Authenticator(name="ada").entry()))
    assert (await custody("add-passkey", "--subject", "ada", "--entry", str(entry)))[0] == 0
    assert (await custody("add-passkey", "--subject", "ada", "--entry", str(entry)))[0] == 2
