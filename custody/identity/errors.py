"""Refusals of identity."""

from __future__ import annotations

from custody.kernel.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    NotFound,
    Refused,
    Unauthenticated,
    Unavailable,
)


class InvalidApiKey(Unauthenticated):
    """The bearer token is no key of ours, or was revoked or has expired."""

    code = "invalid_api_key"
    public = "The API key is missing, unknown, expired or revoked."


class InvalidToken(Unauthenticated):
    """The bearer token is a JWT that may not count. `reason` is stable and says nothing that a forger could use."""

    code = "invalid_token"
    public = "The token is not valid here."


class MissingScope(Forbidden):
    """The principal's roles and scopes do not include the permission that the operation needs."""

    code = "missing_scope"
    public = "The credential does not have the permission for this operation."


class StepUpRequired(Forbidden):
    """An administrative action by a person who has not confirmed it with a passkey. `confirm_url` leads to the page `/confirm/…`,
    which shows the action and asks for the passkey. Then the same call with the same `Idempotency-Key` goes through."""

    code = "step_up_required"
    public = "Confirm with a passkey first, at confirm_url, and then repeat the call with the same Idempotency-Key."


class UnknownStepUp(NotFound):
    """No action that this person was asked to confirm in this sign-in."""

    code = "unknown_step_up"
    public = "No such action waits for you in this sign-in."


class StepUpRefused(Forbidden):
    """The passkey's answer does not count."""

    code = "step_up_refused"
    public = "The passkey's answer was not accepted."


class EnrolmentRefused(Forbidden):
    """A person without a passkey may register a first one only, with a second factor at the identity provider."""

    code = "enrolment_refused"
    public = "A first passkey needs a sign-in with a second factor; one after all were revoked, an operator's help."


class UnknownScope(InvalidInput):
    """A key was asked for with a scope that does not exist."""

    code = "unknown_scope"
    public = "No such scope."


class UnknownRole(InvalidInput):
    """A role was named that does not exist."""

    code = "unknown_role"
    public = "No such role."


class NotGrantable(Forbidden):
    """Somebody wanted to give more than they have."""

    code = "role_not_grantable"
    public = "Only what your own roles allow can be given to others."


class RoleNotFound(NotFound):
    """No such role of this tenant's own."""

    code = "role_not_found"
    public = "No such role."


class RoleRetired(Conflict):
    """A retired role stays retired: whoever still has its name would otherwise be given something new."""

    code = "role_retired"
    public = "The role is retired, and its name is not used again."


class RoleVersionConflict(Conflict):
    """The version does not follow the last one: somebody else was there first, or the name is taken."""

    code = "role_version_conflict"
    public = "The version must be one above the role's last one, and 1 for a new role."


class TooManyRoles(Refused):
    """The tenant has used up its names of roles."""

    code = "too_many_roles"
    public = "The tenant has as many roles of its own as it may have."


class UnknownPermission(InvalidInput):
    """A role was to hold a permission that does not exist, or none at all."""

    code = "unknown_permission"
    public = "No such permission."


class PermissionReserved(InvalidInput):
    """A role of a tenant's own was to administer. Only built-in roles do."""

    code = "permission_reserved"
    public = "Administrative permissions come with the built-in roles alone."


class MalformedRole(InvalidInput):
    """A role of a tenant's own was named in another form."""

    code = "malformed_role"
    public = (
        "A role of your own is `own:` and 1 to 40 small letters, digits and hyphens that begin with a letter."
    )


class MalformedSubject(InvalidInput):
    """A key was asked for in a name that audit and intents could not carry."""

    code = "malformed_subject"
    public = "A subject is 1 to 64 ASCII letters, digits and ._:@-, and begins with a letter or digit."


class MalformedPublicKey(InvalidInput):
    """A client's key or a passkey is not of a kind and form that we verify."""

    code = "malformed_public_key"
    public = "The public key is not of a kind that is accepted here."


class BadLifetime(InvalidInput):
    """A lifetime is outside what is allowed."""

    code = "bad_lifetime"
    public = "The lifetime is outside the allowed range."


class UnknownApiKey(NotFound):
    """No such key of this tenant."""

    code = "unknown_api_key"
    public = "No such API key."


class UnknownClient(NotFound):
    """No such client of this tenant."""

    code = "unknown_client"
    public = "No such client."


class UnknownPasskey(NotFound):
    """No such passkey of this person."""

    code = "unknown_passkey"
    public = "No such passkey."


class PasskeyTaken(Conflict):
    """The credential is registered already."""

    code = "passkey_taken"
    public = "This passkey is registered already."


class UnknownIssuer(NotFound):
    """No such issuer that this tenant trusts."""

    code = "unknown_issuer"
    public = "No such identity provider."


class IssuerTaken(Conflict):
    """Two tenants cannot trust one issuer for one audience: a token would name both."""

    code = "issuer_taken"
    public = "This issuer is trusted for this audience already."


class MalformedIssuer(InvalidInput):
    """An issuer without https, audience or subject claim."""

    code = "malformed_issuer"
    public = "An identity provider needs https addresses, an audience and the claim that names people."


class ClientRefused(Unauthenticated):
    """A client's signed request for a token does not count. Source: RFC 6749 s.5.2, `invalid_client`."""

    code = "invalid_client"
    public = "The client's assertion was not accepted."


class KeyNotActive(Conflict):
    """A key that is revoked or expired cannot be rotated."""

    code = "key_not_active"
    public = "The key is revoked or expired."


class IssuerUnreachable(Unavailable):
    """The identity provider's keys cannot be had now, and the token names one that we do not know."""

    code = "issuer_unreachable"
    public = "The identity provider's keys cannot be read now."
