"""Makes the two disk images of the comparison: one, and the same with some blocks changed.

    image.py FOLDER [--mib N] [--seed N]

By parts of 1024: 300 random, 200 text, 100 copies of earlier blocks, 424 holes, in runs of 1 to 64 blocks of 512 KiB, in an
order that follows from the seed. In `changed.img` 100 of 2048 blocks, chosen anywhere, are random and new. Run as a program
of its own, so that the memory it takes does not count for what is measured afterwards.
"""

import argparse
import os
import random
import shutil
from itertools import accumulate
from pathlib import Path

BLOCK = 512 * 1024
# Parts of 1024.
PARTS = {"random": 300, "text": 200, "copy": 100, "hole": 424}
CHANGED = 50
LONGEST_RUN = 64
VOCABULARY = 20_000


class Words:
    """Text as compressors find it: words of a language that does not exist, the frequent ones much more so."""

    def __init__(self, dice: random.Random):
        letters = "etaoinshrdlucmfwypvbgkjqxz"
        weights = list(accumulate(1 / (1 + place) for place in range(len(letters))))
        self.words = [
            "".join(dice.choices(letters, cum_weights=weights, k=dice.randint(2, 11)))
            for _ in range(VOCABULARY)
        ]
        self.weights = list(accumulate(1 / (2 + place) for place in range(VOCABULARY)))

    def block(self, dice: random.Random) -> bytes:
        text = bytearray()
        while len(text) < BLOCK:
            line = dice.choices(self.words, cum_weights=self.weights, k=12)
            text += " ".join(line).encode() + b"\n"
        return bytes(text[:BLOCK])


def kinds(blocks: int, dice: random.Random) -> list[str]:
    """What each block is. The first run is random data, so that there is something to copy."""
    left = {kind: blocks * part // 1024 for kind, part in PARTS.items()}
    left["hole"] += blocks - sum(left.values())
    plan: list[str] = []
    kind = "random"
    while any(left.values()):
        run = min(dice.randint(1, LONGEST_RUN), left[kind])
        left[kind] -= run
        plan += [kind] * run
        names = [name for name, count in left.items() if count > 0]
        if names:
            kind = dice.choices(names, weights=[left[name] for name in names])[0]
    return plan


def make_base(path: Path, blocks: int, dice: random.Random) -> None:
    words = Words(dice)
    written: list[int] = []
    with path.open("w+b") as image:
        image.truncate(blocks * BLOCK)
        for index, kind in enumerate(kinds(blocks, dice)):
            if kind == "hole":
                continue
            if kind == "copy":
                data = os.pread(image.fileno(), BLOCK, dice.choice(written) * BLOCK)
            else:
                data = dice.randbytes(BLOCK) if kind == "random" else words.block(dice)
                written.append(index)
            os.pwrite(image.fileno(), data, index * BLOCK)
        os.fsync(image.fileno())


def change(path: Path, blocks: int, dice: random.Random) -> None:
    with path.open("r+b") as image:
        for index in dice.sample(range(blocks), blocks * CHANGED // 1024):
            os.pwrite(image.fileno(), dice.randbytes(BLOCK), index * BLOCK)
        os.fsync(image.fileno())


def copy_sparse(source: Path, target: Path) -> None:
    """Copies data alone, and keeps the holes."""
    size = source.stat().st_size
    with source.open("rb") as read, target.open("wb") as write:
        write.truncate(size)
        at = 0
        while at < size:
            try:
                start = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError:
                break
            at = os.lseek(read.fileno(), start, os.SEEK_HOLE)
            read.seek(start)
            write.seek(start)
            while start < at:
                piece = read.read(min(at - start, 4 * 1024 * 1024))
                write.write(piece)
                start += len(piece)
        os.fsync(write.fileno())


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--mib", type=int, default=1024)
    options.add_argument("--seed", type=int, default=1)
    given = options.parse_args()
    blocks = given.mib * 1024 * 1024 // BLOCK
    dice = random.Random(given.seed)
    base, changed = given.folder / "base.img", given.folder / "changed.img"
    given.folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(given.folder).free < 3 * blocks * BLOCK:
        raise SystemExit(f"{given.folder}: too little space for two images of {given.mib} MiB")
    make_base(base, blocks, dice)
    copy_sparse(base, changed)
    change(changed, blocks, dice)


if __name__ == "__main__":
    main()
