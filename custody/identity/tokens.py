"""JSON Web Tokens: read without belief, then verified strictly. The only file that knows the library.

Refused whatever a token says of itself: `none`, HMAC (a public key must not double as a shared secret), critical extensions, and
an algorithm that is not the key's. Keys and addresses of keys in the header (`jwk`, `jku`, `x5u`, `x5c`) are never looked at.
Source: RFC 8725, RFC 7519, RFC 7515.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from custody.identity.errors import InvalidToken, MalformedPublicKey

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")
"""What a signature may be; each is asymmetric."""
LENGTH_MAX = 8192
"""Longest token in characters."""
LEEWAY = timedelta(seconds=60)
"""How far another clock may be from ours."""
LIFETIME_MAX = timedelta(hours=24)
"""A token that holds for longer is not believed: it could not be called back."""
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192

PublicKey = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Peek:
    """What a token says before anything of it is believed: enough to find out whom to ask for the key."""

    kid: str
    """Name of the key; empty when it names none."""
    algorithm: str
    """One of ALGORITHMS."""
    issuer: str
    """`iss`."""
    audiences: tuple[str, ...]
    """`aud`, one or several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyingKey:
    """A public key with the algorithms that its kind signs by."""

    kid: str
    """Its name; empty when it has none."""
    algorithms: tuple[str, ...]
    """The only ones under which it verifies."""
    key: PublicKey
    """The key."""


def peek(token: str) -> Peek:
    """Read a token without believing it. Raises InvalidToken."""
    if len(token) > LENGTH_MAX:
        raise InvalidToken(reason="too_long")
    try:
        read = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise InvalidToken(reason="malformed") from error
    header, claims = read["header"], read["payload"]
    if header.get("alg") not in ALGORITHMS:
        raise InvalidToken(reason="algorithm")
    if "crit" in header or "b64" in header:
        raise InvalidToken(reason="critical_extension")
    kid, issuer, audience = header.get("kid", ""), claims.get("iss"), claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    if not isinstance(kid, str) or not isinstance(issuer, str) or len(kid) > 256 or len(audiences) > 10:
        raise InvalidToken(reason="malformed")
    return Peek(
        kid=kid,
        algorithm=header["alg"],
        issuer=issuer,
        audiences=tuple(each for each in audiences if isinstance(each, str)),
    )


def verify(
    token: str, key: VerifyingKey, *, algorithm: str, issuer: str, audience: str, lifetime_max: timedelta
) -> dict[str, Any]:
    """The claims of a token that this key signed, for us, now. Raises InvalidToken.

    `lifetime_max` bounds `exp` less `iat`.
    """
    if algorithm not in key.algorithms:
        raise InvalidToken(reason="algorithm")
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=audience,
            leeway=LEEWAY,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
        lives_s = int(claims["exp"]) - int(claims["iat"])
    except (jwt.PyJWTError, ArithmeticError, TypeError, ValueError) as error:
        raise InvalidToken(reason=_REASONS.get(type(error), "malformed")) from error
    if lives_s > lifetime_max.total_seconds():
        raise InvalidToken(reason="lives_too_long")
    return {**claims, "exp": int(claims["exp"])}


_REASONS: Mapping[type[Exception], str] = {
    jwt.ExpiredSignatureError: "expired",
    jwt.ImmatureSignatureError: "not_yet_valid",
    jwt.InvalidIssuerError: "issuer",
    jwt.InvalidAudienceError: "audience",
    jwt.InvalidSignatureError: "signature",
    jwt.MissingRequiredClaimError: "claim_missing",
}


def holds_secret(jwk: Mapping[str, Any]) -> bool:
    """Whether it is a private or a shared key, which nobody should have been sent. Source: RFC 7518 s.6.2.2, 6.3.2, 6.4.1."""
    return "d" in jwk or "k" in jwk


def read_jwk(jwk: Mapping[str, Any]) -> VerifyingKey:
    """A public key of a JWK. Raises MalformedPublicKey for secrets, other kinds and weak ones."""
    if holds_secret(jwk) or jwk.get("use", "sig") != "sig":
        raise MalformedPublicKey
    try:
        algorithms = _ALGORITHMS_OF[(jwk.get("kty"), jwk.get("crv"))]
        key = jwt.PyJWK({**jwk, "alg": algorithms[0]}).key
    except (jwt.PyJWTError, KeyError, TypeError, ValueError) as error:
        raise MalformedPublicKey from error
    if not isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        raise MalformedPublicKey
    if isinstance(key, RSAPublicKey) and not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise MalformedPublicKey
    if isinstance(key, EllipticCurvePublicKey) and not isinstance(key.curve, SECP256R1):
        raise MalformedPublicKey
    named = jwk.get("alg")
    if named is not None:
        algorithms = tuple(each for each in algorithms if each == named)
    kid = jwk.get("kid", "")
    if not algorithms or not isinstance(kid, str) or len(kid) > 256:
        raise MalformedPublicKey
    return VerifyingKey(kid=kid, algorithms=algorithms, key=key)


_ALGORITHMS_OF: Mapping[tuple[Any, Any], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "PS256"),
    ("EC", "P-256"): ("ES256",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
"""Kind and curve of a key to what it signs by."""
