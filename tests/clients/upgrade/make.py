"""Writes the data directories that later versions must open: tests/clients/upgrade/VERSION/*.tar.xz.

    DRYSTONE_BIN=path/to/that/version target/clients/python/bin/python tests/clients/upgrade/make.py v1

Run once, with the binary of a released version; what it wrote is never written again. `manifest.json` beside the
archives says what a later version must find in them; test_upgrade.py in the Python suite looks for it.
"""

import json
import re
import sqlite3
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "harness"))

from content import ZERO, digest, letter  # noqa: E402
from server import Server  # noqa: E402
from session import complete, list_changed, put, put_all, start, upload, wait, wait_error  # noqa: E402

TOKEN = "upgrade-client-token"
# Completed all at once, right before a kill: some of them are found with the finisher still to come.
SEALED_SNAPSHOTS = 6
SEALED_BLOCKS = 150
SEALED_ATTEMPTS = 10
# A state in the snapshot records of catalog version 1.
SEALED = 2


def block(name: str) -> bytes:
    return ZERO if name == "zero" else letter(name)


def blocks(names: dict) -> dict:
    return {index: block(name) for index, name in names.items()}


class Made:
    """The snapshots of one directory, as the manifest lists them."""

    def __init__(self, server: Server):
        self.server = server
        self.ebs, self.ec2 = server.client("ebs"), server.client("ec2")
        self.snapshots = {}
        self.changed = []

    def upload(self, role: str, names: dict, base: dict | None = None, **more) -> str:
        """A completed snapshot; `base` is what its parent reads as."""
        snapshot = upload(self.ebs, self.ec2, blocks(names), **more)
        self.keep(role, snapshot, "completed", {**(base or {}), **names})
        return snapshot

    def keep(self, role: str, snapshot: str, state: str, names: dict) -> None:
        self.snapshots[role] = {"id": snapshot, "state": state, "blocks": names}

    def describe(self) -> None:
        """Adds what EC2 says of each snapshot that is not deleted."""
        found = {s["SnapshotId"]: s for s in self.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
        for made in self.snapshots.values():
            if made["state"] in ("deleted", "sealed"):
                continue
            said = found.pop(made["id"])
            kept = ("VolumeId", "VolumeSize", "Description", "OwnerId", "Encrypted", "StateMessage", "Tags")
            made["described"] = {key: said[key] for key in kept if key in said}
            made["described"]["StartTime"] = said["StartTime"].isoformat()
            if "FullSnapshotSizeInBytes" in said and made["state"] == "completed":
                made["described"]["FullSnapshotSizeInBytes"] = said["FullSnapshotSizeInBytes"]
        assert not found, found

    def compare(self, first: str, second: str) -> None:
        ids = (self.snapshots[first]["id"], self.snapshots[second]["id"])
        self.changed.append([first, second, sorted(list_changed(self.ebs, *ids))])


def fill(server: Server) -> Made:
    """Everything that a version 1 store can hold, except a sealed snapshot."""
    made = Made(server)
    parent = {0: "a", 1: "b", 2: "zero", 7: "a", 300: "c", 2047: "d"}
    tags = [{"Key": "Name", "Value": "first"}, {"Key": "größe", "Value": "日本 <&>"}]
    first = made.upload("parent", parent, Description="the parent, \"quoted\"", Tags=tags)
    one = {1: "e", 2: "f", 1000: "g"}
    second = made.upload("child", one, parent, ParentSnapshotId=first, Description="the child")
    two = {0: "zero", 2047: "h", 5: "a"}
    made.upload("grandchild", two, {**parent, **one}, ParentSnapshotId=second, gib=2)
    made.compare("parent", "child")
    made.compare("child", "grandchild")
    made.compare("parent", "grandchild")

    gone = made.upload("deleted parent", {3: "i", 4: "j", 2000: "a"})
    made.upload("orphan", {4: "k"}, {3: "i", 4: "j", 2000: "a"}, ParentSnapshotId=gone)
    made.ec2.delete_snapshot(SnapshotId=gone)
    made.snapshots["deleted parent"]["state"] = "deleted"

    made.upload("empty", {}, gib=16)

    failed = start(made.ebs, Description="to fail")
    put(made.ebs, failed, 0, letter("l"))
    made.ebs.complete_snapshot(SnapshotId=failed, ChangedBlocksCount=2)
    made.keep("failed", failed, "error", {})
    wait_error(made.ec2, failed)

    pending = start(made.ebs, ParentSnapshotId=first, ClientToken=TOKEN, Description="open")
    names = {6: "m", 7: "zero", 8: "a", 1999: "n"}
    put_all(made.ebs, pending, blocks(names))
    made.keep("open", pending, "pending", names)
    doomed = start(made.ebs)
    put(made.ebs, doomed, 9, letter("o"))
    made.ec2.delete_snapshot(SnapshotId=doomed)
    made.keep("deleted while open", doomed, "deleted", {})

    made.ec2.create_tags(Resources=[second], Tags=[{"Key": "later", "Value": ""}])
    made.ec2.create_tags(Resources=[first], Tags=[{"Key": "Name", "Value": "renamed"}])
    made.ec2.delete_tags(Resources=[first], Tags=[{"Key": "größe"}])
    made.describe()
    return made


def seal(made: Made) -> None:
    """Kills the server between the seal of a snapshot and the end of its finisher; leaves it dead."""
    names = {index: "p" if index % 3 else "a" for index in range(SEALED_BLOCKS)}
    for attempt in range(SEALED_ATTEMPTS):
        snapshots = [start(made.ebs) for _ in range(SEALED_SNAPSHOTS)]
        for snapshot in snapshots:
            put_all(made.ebs, snapshot, blocks(names))
        # New content, so that a segment of blocks is open too.
        late, name = start(made.ebs), f"late{attempt}"
        put(made.ebs, late, 3, block(name))
        with ThreadPoolExecutor(SEALED_SNAPSHOTS) as pool:
            list(pool.map(lambda snapshot: complete(made.ebs, snapshot, blocks(names)), snapshots))
        made.server.kill()
        sealed = [s for s in snapshots if state_of(made.server.data, s) == SEALED]
        if sealed:
            for number, snapshot in enumerate(snapshots):
                made.keep(f"completed last {number}", snapshot, "sealed" if snapshot in sealed else "completed", names)
            made.keep("open last", late, "pending", {3: name})
            return
        made.server.start()
        made.ebs, made.ec2 = made.server.client("ebs"), made.server.client("ec2")
        made.ec2.delete_snapshot(SnapshotId=late)
        for snapshot in snapshots:
            wait(made.ec2, snapshot)
            made.ec2.delete_snapshot(SnapshotId=snapshot)
    raise AssertionError(f"the finisher was faster than {SEALED_ATTEMPTS} kills")


def state_of(data: Path, snapshot: str) -> int:
    """Reads a copy of the catalog, so that the log stays as the kill left it."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("catalog.db", "catalog.db-wal"):
            (Path(folder) / name).write_bytes((data / name).read_bytes())
        with sqlite3.connect(Path(folder) / "catalog.db") as catalog:
            for number, state in catalog.execute("SELECT snapshot, state FROM snapshots"):
                if f"snap-{number:017x}" == snapshot:
                    return state
    raise AssertionError(f"{snapshot} is not in the catalog")


def pack(data: Path, target: Path) -> None:
    """Holes stay holes. The socket of the dead server is no file."""
    command = ["tar", "--create", "--sparse", "--format=posix", "--exclude=admin.sock", "--owner=0", "--group=0"]
    command += ["--use-compress-program=xz -9e", "--file", target, "--directory", data, "."]
    subprocess.run(command, check=True)


def make(folder: Path, target: Path, name: str, *args: str) -> dict:
    server = Server(folder / name, *args).start()
    try:
        key = server.command("key", "create", "--data", str(server.data))
        assert key.returncode == 0, key.stderr
        lines = dict(line.split(" = ") for line in key.stdout.splitlines() if " = " in line)
        second = [lines["aws_access_key_id"], lines["aws_secret_access_key"]]
        made = fill(server)
        seal(made)
    finally:
        server.kill()
    pack(server.data, target / f"{name}.tar.xz")
    return {
        "keys": [list(server.credentials), second],
        "client_token": {"token": TOKEN, "role": "open"},
        "snapshots": made.snapshots,
        "changed": made.changed,
    }


def main() -> None:
    target = HERE / sys.argv[1]
    target.mkdir(exist_ok=True)
    if list(target.glob("*.tar.xz")):
        raise SystemExit(f"{target} has been made; a released version does not change")
    with tempfile.TemporaryDirectory(prefix="drystone-upgrade-") as folder:
        folder = Path(folder)
        settings = folder / "zstd.toml"
        settings.write_text('[store]\ncompression = "zstd:3"\n')
        directories = {
            "plain": make(folder, target, "plain"),
            "zstd": make(folder, target, "zstd", "--config", str(settings)),
        }
    made = [made for said in directories.values() for made in said["snapshots"].values()]
    names = sorted({name for snapshot in made for name in snapshot["blocks"].values()})
    manifest = {
        "contents": {name: digest(block(name)).hex() for name in names},
        "directories": directories,
    }
    text = json.dumps(manifest, indent=1, ensure_ascii=False)
    # The blocks of a snapshot are one line.
    text = re.sub(r'\n\s+("\d+": "[a-z0-9]+",?)(?=\n)', r" \1", text)
    (target / "manifest.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
