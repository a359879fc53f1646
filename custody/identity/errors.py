"""Refusals of identity."""

from __future__ import annotations

from custody.kernel.errors import Forbidden, InvalidInput, Unauthenticated


class InvalidApiKey(Unauthenticated):
    """The bearer token is no key of ours, or was revoked or has expired."""

    code = "invalid_api_key"
    public = "The API key is missing, unknown, expired or revoked."


class MissingScope(Forbidden):
    """The key lacks the scope that the operation needs."""

    code = "missing_scope"
    public = "The API key does not have the scope for this operation."


class UnknownScope(InvalidInput):
    """A key was asked for with a scope that does not exist."""

    code = "unknown_scope"
    public = "No such scope."


class MalformedSubject(InvalidInput):
    """A key was asked for in a name that audit and intents could not carry."""

    code = "malformed_subject"
    public = "A subject is 1 to 64 ASCII letters, digits and ._:@-, and begins with a letter or digit."
