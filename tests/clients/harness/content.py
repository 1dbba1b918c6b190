"""Block contents with known digests, and the LINEAR aggregate over them (SPEC 3.4)."""

import base64
import hashlib
import random

BLOCK = 524288
BLOCKS_PER_GIB = 2048
ZERO = bytes(BLOCK)
COUNTING = bytes(range(256)) * 2048


def letter(x: str) -> bytes:
    """The synthetic block of a letter: its line repeated, cut at 512 KiB."""
    line = f"stackd-ebs-synthetic-{x}\n".encode()
    return (line * (BLOCK // len(line) + 1))[:BLOCK]


def unique(seed) -> bytes:
    """Incompressible bytes, the same for the same seed."""
    return random.Random(repr(seed)).randbytes(BLOCK)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def checksum(data: bytes) -> str:
    return base64.b64encode(digest(data)).decode()


def aggregate(blocks: dict) -> str:
    """The aggregate over {index: data}: raw digests in the order of the indexes."""
    joined = b"".join(digest(blocks[index]) for index in sorted(blocks))
    return base64.b64encode(hashlib.sha256(joined).digest()).decode()
