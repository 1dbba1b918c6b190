"""Garbage collection as an operator sees it: space returns, nothing in use goes, also while clients write."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from content import BLOCK, ZERO, unique
from session import complete, download, put, put_all, start, upload, wait


@pytest.fixture
def own(fresh):
    return fresh()


def run(server, *args: str) -> dict:
    done = server.command(*args, "--json", "--data", str(server.data))
    assert done.returncode == 0, (done.stdout, done.stderr)
    return json.loads(done.stdout)


def du(server) -> int:
    """Bytes that the segments take on the disk."""
    return sum(file.stat().st_blocks * 512 for file in (server.data / "segments").iterdir())


def clean(server) -> None:
    """Nothing is damaged, and catalog and segments agree."""
    assert run(server, "scrub", "--restart", "--rate", "4 GiB")["damaged"] == 0
    findings = run(server, "audit", "--depth", "headers")["findings"]
    assert not [finding for finding in findings if finding["grave"]], findings


def test_deleting_a_snapshot_gives_its_own_space_back(own):
    ebs, ec2 = own.client("ebs"), own.client("ec2")
    shared = {index: unique(("shared", index)) for index in range(20)}
    base = upload(ebs, ec2, shared)
    own_blocks = {100 + index: unique(("own", index)) for index in range(120)}
    doomed = upload(ebs, ec2, own_blocks, ParentSnapshotId=base)

    usage = run(own, "usage", "--refresh", "--snapshot", doomed)["snapshots"][0]
    assert usage["logical_bytes"] == 140 * BLOCK and usage["own_blocks"] == 120
    before = du(own)
    ec2.delete_snapshot(SnapshotId=doomed)
    first, second = run(own, "gc"), run(own, "gc")
    assert first["condemned"]["count"] >= 120 and second["swept"] == first["condemned"]
    assert before - du(own) >= 120 * BLOCK, (before, du(own))
    # What deleting it frees is what was told: its blocks, its pages and its own frame.
    assert 0 <= usage["own_bytes"] - second["swept"]["bytes"] <= 8192, (usage, second)
    assert download(ebs, base) == shared
    clean(own)


def test_the_parent_goes_and_the_child_stays_whole(own):
    ebs, ec2 = own.client("ebs"), own.client("ec2")
    old = {index: unique(("old", index)) for index in range(30)}
    parent = upload(ebs, ec2, old)
    new = {index: unique(("new", index)) for index in range(0, 30, 3)}
    child = upload(ebs, ec2, new, ParentSnapshotId=parent)
    ec2.delete_snapshot(SnapshotId=parent)
    for _ in range(3):
        run(own, "gc")
    assert download(ebs, child) == {**old, **new}
    assert run(own, "usage", "--refresh")["totals"]["logical_bytes"] == 30 * BLOCK
    clean(own)


def test_collections_while_clients_put_what_was_just_deleted(own):
    """The race that matters: content is condemned and swept while others put it again and find it there."""
    ebs, ec2 = own.client("ebs"), own.client("ec2")
    blocks = {index: unique(("again", index)) for index in range(24)} | {90: ZERO}
    stop = threading.Event()

    def collect():
        cycles = 0
        while not stop.is_set():
            report = run(own, "gc")
            assert report["missing"] == 0 and report["revived"] == 0, report
            cycles += 1
        return cycles

    def churn(_):
        snapshot = upload(ebs, ec2, blocks)
        assert download(ebs, snapshot) == blocks
        ec2.delete_snapshot(SnapshotId=snapshot)

    kept = upload(ebs, ec2, {index: unique(("kept", index)) for index in range(10)})
    with ThreadPoolExecutor(8) as pool:
        collecting = pool.submit(collect)
        list(pool.map(churn, range(30)))
        last = upload(ebs, ec2, blocks)
        stop.set()
        assert collecting.result() >= 2
    assert download(ebs, last) == blocks
    assert download(ebs, kept) == {index: unique(("kept", index)) for index in range(10)}
    clean(own)


def test_a_pending_snapshot_keeps_what_was_put(own):
    ebs, ec2 = own.client("ebs"), own.client("ec2")
    blocks = {index: unique(("pending", index)) for index in range(16)}
    doomed = upload(ebs, ec2, blocks)
    pending = start(ebs)
    put_all(ebs, pending, blocks)
    ec2.delete_snapshot(SnapshotId=doomed)
    for _ in range(3):
        run(own, "gc")
    own.kill()
    run(own, "gc")
    own.start()
    ebs, ec2 = own.client("ebs"), own.client("ec2")
    put(ebs, pending, 40, unique("one more"))
    blocks[40] = unique("one more")
    complete(ebs, pending, blocks)
    wait(ec2, pending)
    assert download(ebs, pending) == blocks
    clean(own)
