"""Data directories of every earlier version: opened, verified byte for byte, and gone on with."""

import json
import tarfile
from pathlib import Path

import pytest
from content import ZERO, digest, letter, unique
from session import complete, download, fault, list_changed, put, put_all, start, upload, wait

FOLDER = Path(__file__).parents[1] / "upgrade"
MADE = sorted(FOLDER.glob("*/*.tar.xz"))


def block(name: str) -> bytes:
    return ZERO if name == "zero" else letter(name)


class Old:
    """One directory of an earlier version, what its manifest says, and a server on a copy of it."""

    def __init__(self, archive: Path, fresh, folder: Path):
        everything = json.loads((archive.parent / "manifest.json").read_text())
        for name, expected in everything["contents"].items():
            assert digest(block(name)).hex() == expected, f"content {name} is not what it was"
        self.said = everything["directories"][archive.name.removesuffix(".tar.xz")]
        data = folder / f"{archive.parent.name}-{archive.name}-data"
        data.mkdir(mode=0o700)
        with tarfile.open(archive) as packed:
            packed.extractall(data, filter="tar")
        self.server = fresh(data=data)
        self.connect()

    def connect(self) -> None:
        self.ebs, self.ec2 = self.server.client("ebs"), self.server.client("ec2")

    def id(self, role: str) -> str:
        return self.said["snapshots"][role]["id"]

    def blocks(self, role: str) -> dict:
        return {int(index): block(name) for index, name in self.said["snapshots"][role]["blocks"].items()}

    def roles(self, *states: str) -> list:
        return [role for role, made in self.said["snapshots"].items() if made["state"] in states]


@pytest.fixture(params=MADE, ids=lambda archive: f"{archive.parent.name}-{archive.name.split('.')[0]}")
def old(request, fresh, tmp_path):
    return Old(request.param, fresh, tmp_path)


def verify(old: Old) -> None:
    """Every snapshot and only those, with the same words, the same blocks and the same differences."""
    for role in old.roles("sealed"):
        wait(old.ec2, old.id(role))
    seen = {s["SnapshotId"]: s for s in old.ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    living = old.roles("completed", "sealed", "error", "pending")
    assert set(seen) == {old.id(role) for role in living}
    for role in living:
        made = old.said["snapshots"][role]
        found = seen[made["id"]]
        # An open one is completed by some tests.
        states = {"sealed": ["completed"], "pending": ["pending", "completed"]}.get(made["state"], [made["state"]])
        assert found["State"] in states, (role, found)
        for key, expected in made.get("described", {}).items():
            value = found[key].isoformat() if key == "StartTime" else found[key]
            if key == "Tags":
                value, expected = ({tag["Key"]: tag["Value"] for tag in tags} for tags in (value, expected))
            assert value == expected, (role, key, value, expected)
    for role in old.roles("completed", "sealed"):
        assert download(old.ebs, old.id(role)) == old.blocks(role), role
    for first, second, changed in old.said["changed"]:
        assert sorted(list_changed(old.ebs, old.id(first), old.id(second))) == changed
    for role in old.roles("deleted"):
        found = fault(old.ebs.list_snapshot_blocks, SnapshotId=old.id(role))
        assert (found.code, found.reason) == ("ResourceNotFoundException", "SNAPSHOT_NOT_FOUND"), found


def test_there_are_directories():
    assert len(MADE) >= 2


def test_everything_is_there_and_stays(old):
    verify(old)
    old.server.kill()
    old.server.start()
    old.connect()
    verify(old)


def test_both_keys_sign(old):
    for keys in old.said["keys"]:
        sts = old.server.client("sts", keys=tuple(keys))
        assert sts.get_caller_identity()["Account"]


def test_an_open_snapshot_goes_on(old):
    """Its old puts count, and the token that started it still names it."""
    token = old.said["client_token"]
    snapshot = old.id(token["role"])
    again = old.ebs.start_snapshot(
        VolumeSize=1, ParentSnapshotId=old.id("parent"), ClientToken=token["token"], Description="open"
    )
    assert again["SnapshotId"] == snapshot
    more = {8: letter("b"), 11: unique("upgrade"), 12: ZERO, 1234: letter("m")}
    put_all(old.ebs, snapshot, more)
    own = {**old.blocks("open"), **more}
    complete(old.ebs, snapshot, own)
    wait(old.ec2, snapshot)
    assert download(old.ebs, snapshot) == {**old.blocks("parent"), **own}
    last = old.id("open last")
    complete(old.ebs, last, old.blocks("open last"))
    wait(old.ec2, last)
    assert download(old.ebs, last) == old.blocks("open last")
    verify(old)


def test_children_and_deletes(old):
    """A child of an old snapshot, with content that is stored already; then its ancestors go."""
    base = old.blocks("grandchild")
    own = {0: letter("a"), 1: unique("child"), 4000: letter("h")}
    child = upload(old.ebs, old.ec2, own, gib=2, ParentSnapshotId=old.id("grandchild"))
    assert sorted(list_changed(old.ebs, old.id("grandchild"), child)) == [0, 1, 4000]
    for role in ("parent", "child", "grandchild", "failed", "open"):
        old.ec2.delete_snapshot(SnapshotId=old.id(role))
    assert download(old.ebs, child) == {**base, **own}
    assert download(old.ebs, old.id("orphan")) == old.blocks("orphan")
    old.server.kill()
    old.server.start()
    old.connect()
    assert download(old.ebs, child) == {**base, **own}
    again = start(old.ebs)
    put(old.ebs, again, 0, letter("c"))
    complete(old.ebs, again, {0: letter("c")})
    wait(old.ec2, again)
    assert download(old.ebs, again) == {0: letter("c")}


def command(old: Old, *words: str) -> str:
    done = old.server.command(*words, "--data", str(old.server.data))
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_keeper_finds_nothing_wrong(old):
    """Audit, scrub and collection of an old directory: clean, and nothing that is in use goes."""
    for role in old.roles("sealed"):
        wait(old.ec2, old.id(role))
    command(old, "audit", "--depth", "headers")
    command(old, "scrub", "--restart")
    # What a cycle condemns, the next one sweeps.
    swept = [json.loads(command(old, "gc", "--json"))["swept"]["count"] for _ in range(3)]
    assert sum(swept) > 0, "blocks of the deleted snapshots are garbage"
    verify(old)
    command(old, "audit", "--depth", "headers")
    # Content that was collected can be put again, and what is stored is found again.
    names = sorted({name for made in old.said["snapshots"].values() for name in made["blocks"].values()})
    again = {index: block(name) for index, name in enumerate([*names, "l", "o"])}
    snapshot = upload(old.ebs, old.ec2, again)
    old.server.kill()
    # Nobody serves: the commands take the directory themselves.
    command(old, "audit", "--depth", "headers")
    command(old, "gc")
    old.server.start()
    old.connect()
    assert download(old.ebs, snapshot) == again
    command(old, "scrub", "--restart")
