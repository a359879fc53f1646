"""The kinds of key that an approver may hold. Each has one spelling, so that equal keys are equal texts (SPEC.md section 6)."""

from dataclasses import dataclass

ALGORITHMS = ("ES256", "EdDSA", "RS256")
"""What a passkey may sign with. Source: COSE algorithms -7, -8 and -257."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ed25519Key:
    """A key that signs the approval's message itself, with Ed25519."""

    public_key: str
    """32 bytes, hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class P256Key:
    """A key that signs the approval's message itself, with ECDSA over P-256 and SHA-256."""

    public_key: str
    """The uncompressed point 04‖X‖Y, 65 bytes, hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passkey:
    """A WebAuthn credential that signs a browser's assertion over the approval's message."""

    algorithm: str
    """One of `ALGORITHMS`; a signature of another algorithm does not verify."""
    public_key: str
    """Hex: ES256 the uncompressed point (65 bytes), EdDSA 32 bytes, RS256 the modulus (its exponent is 65537)."""
    credential_id: str
    """base64url without padding."""
    rp_id: str
    """Domain that the credential belongs to."""
    origins: tuple[str, ...]
    """Pages on which it may be used, compared exactly."""
    device_bound: bool
    """Whether the credential cannot leave its device; an assertion that says otherwise is refused."""


ApproverKey = Ed25519Key | P256Key | Passkey
