"""The 32 bytes that a checkpoint key signs (SPEC.md section 7). Standard library only."""

import hashlib

TAG = b"custody-checkpoint-v1\x00"
VAULT = "checkpoints"
"""Keys of this vault sign checkpoints and nothing else; no other key signs one."""


def checkpoint_message(org: str, sequence: int, seal_hash: bytes) -> bytes:
    """SHA-256 of tag, org, a zero byte, the seal's number as 8 bytes big-endian, and the seal's 32 bytes."""
    named = org.encode("ascii") + b"\x00"
    return hashlib.sha256(TAG + named + sequence.to_bytes(8, "big") + seal_hash).digest()
