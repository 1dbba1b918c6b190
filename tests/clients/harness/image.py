"""Images of real file systems: built from a tree of files, changed inside, checked by e2fsck.

Where e2fsprogs is missing an image is generated instead: the same sizes and the same kinds of change,
without a file system in it.
"""

import random
import shutil
import subprocess
import sysconfig
from pathlib import Path

from content import BLOCK
from server import ANSWER_SECONDS

SIZE = 96 << 20
TREE_BYTES = 24 << 20


def tool(name: str) -> str | None:
    return shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin")


def has_e2fsprogs() -> bool:
    return all(tool(name) for name in ("mke2fs", "debugfs", "e2fsck"))


def run(*command) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=ANSWER_SECONDS)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def collect(tree: Path) -> None:
    """Real files: sources of the Python library, up to TREE_BYTES."""
    library = Path(sysconfig.get_paths()["stdlib"])
    total = 0
    for source in sorted(library.rglob("*.py")):
        if "site-packages" in source.parts:
            continue
        target = tree / "library" / source.relative_to(library)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        total += source.stat().st_size
        if total > TREE_BYTES:
            break


def build(folder: Path) -> Path:
    """An ext4 image of real files, or a generated one."""
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(SIZE)
    if not has_e2fsprogs():
        dice = random.Random(1)
        with image.open("r+b") as file:
            for offset in range(0, SIZE // 3, 1 << 20):
                file.seek(offset)
                file.write(dice.randbytes(700_000))
        return image
    tree = folder / "tree"
    tree.mkdir()
    collect(tree)
    (tree / "big").write_bytes(random.Random(2).randbytes(8 << 20))
    run(tool("mke2fs"), "-q", "-t", "ext4", "-d", tree, "-L", "drystone", image)
    check(image)
    return image


def change(image: Path, folder: Path) -> Path:
    """A copy in which a file is added, one is removed and one is replaced."""
    changed = folder / "changed"
    shutil.copyfile(image, changed)
    if not has_e2fsprogs():
        dice = random.Random(3)
        with changed.open("r+b") as file:
            for offset in (0, 5 << 20, 40 << 20, SIZE - 1000):
                file.seek(offset)
                file.write(dice.randbytes(1000))
        return changed
    added = folder / "added"
    added.write_bytes(random.Random(4).randbytes(3 << 20))
    script = folder / "script"
    script.write_text(
        f"mkdir new\ncd new\nwrite {added} added\ncd /\n"
        f"rm library/this.py\nrm library/argparse.py\nwrite {added} library/argparse.py\n"
    )
    run(tool("debugfs"), "-w", "-f", script, changed)
    check(changed)
    return changed


def check(image: Path) -> None:
    if has_e2fsprogs():
        run(tool("e2fsck"), "-f", "-n", image)


def blocks(image: Path) -> dict:
    """{index: data} of the blocks that are not all zeros; the last one is padded."""
    found = {}
    zero = bytes(BLOCK)
    with image.open("rb") as file:
        index = 0
        while data := file.read(BLOCK):
            data = data.ljust(BLOCK, b"\0")
            if data != zero:
                found[index] = data
            index += 1
    return found


def difference(old: dict, new: dict) -> dict:
    """What a client uploads for a child: changed blocks, and zeros where something went away."""
    indexes = set(old) | set(new)
    zero = bytes(BLOCK)
    return {i: new.get(i, zero) for i in sorted(indexes) if old.get(i, zero) != new.get(i, zero)}


def write(found: dict, image: Path) -> Path:
    """An image file from downloaded blocks; indexes that are not there are zeros."""
    with image.open("wb") as file:
        file.truncate(SIZE)
        for index, data in found.items():
            file.seek(index * BLOCK)
            file.write(data)
        file.truncate(SIZE)
    return image


def same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()
