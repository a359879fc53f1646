"""Which signatures on a transaction count, for which account, with which weight.

Knows ed25519 and hash(x) signers. Pre-authorised transactions and signed payloads are refused when somebody tries
to add them (see apply/options.py), so an account can never hold one.
"""

import hashlib

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from stellar_sdk import xdr

from devnet.stellar.entries import Account

LOW, MEDIUM, HIGH = 1, 2, 3
"""Index of a threshold level in an account's thresholds."""


class SignatureChecker:
    """Checks one envelope's signatures and remembers which of them were of use."""

    def __init__(self, contents_hash: bytes, signatures: tuple[xdr.DecoratedSignature, ...]) -> None:
        self._hash = contents_hash
        self._signatures = signatures
        self._used = [False] * len(signatures)

    def account_approves(self, account: Account, level: int) -> bool:
        """True when the signers reach the threshold. Even a threshold of zero needs one valid signer."""
        signers = list(account.signers)
        if account.thresholds[0] > 0:
            signers.append((ed25519_signer_key(account.account), account.thresholds[0]))
        return self._reaches(signers, account.thresholds[level])

    def key_approves(self, account: bytes) -> bool:
        """For an operation source that does not exist yet: its own key must have signed."""
        return self._reaches([(ed25519_signer_key(account), 1)], 0)

    def extra_signers_approve(self, keys: tuple[xdr.SignerKey, ...]) -> bool:
        """Every extra signer of the preconditions must have signed."""
        return all(self._reaches([(key.to_xdr_bytes(), 1)], 1) for key in keys)

    def all_used(self) -> bool:
        return all(self._used)

    def _reaches(self, signers: list[tuple[bytes, int]], needed: int) -> bool:
        total = 0
        left = dict(signers)
        for index, signature in enumerate(self._signatures):
            for key, weight in left.items():
                if _signs(xdr.SignerKey.from_xdr_bytes(key), signature, self._hash):
                    self._used[index] = True
                    total += min(weight, 255)
                    del left[key]
                    if total >= needed:
                        return True
                    break
        return False


def ed25519_signer_key(account: bytes) -> bytes:
    """XDR of the SignerKey that stands for an account's own key."""
    kind = xdr.SignerKeyType.SIGNER_KEY_TYPE_ED25519
    return xdr.SignerKey(kind, ed25519=xdr.Uint256(account)).to_xdr_bytes()


def signer_is_supported(key: xdr.SignerKey) -> bool:
    kinds = xdr.SignerKeyType
    return key.type in (kinds.SIGNER_KEY_TYPE_ED25519, kinds.SIGNER_KEY_TYPE_HASH_X)


def _signs(key: xdr.SignerKey, signature: xdr.DecoratedSignature, contents_hash: bytes) -> bool:
    hint, raw = signature.hint.signature_hint, signature.signature.signature
    if key.ed25519 is not None:
        public = key.ed25519.uint256
        return hint == public[-4:] and _verifies(public, contents_hash, raw)
    if key.hash_x is not None:
        wanted = key.hash_x.uint256
        return hint == wanted[-4:] and hashlib.sha256(raw).digest() == wanted
    return False


def _verifies(public: bytes, message: bytes, signature: bytes) -> bool:
    try:
        VerifyKey(public).verify(message, signature)
    except (BadSignatureError, ValueError):
        return False
    return True
