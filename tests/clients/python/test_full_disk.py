"""A full disk: puts fail with InternalServerException; reads, deletes and restart go on; deleting makes room by itself."""

import os
import subprocess
import time

import pytest
from botocore.exceptions import ClientError
from content import unique
from image import tool
from server import ANSWER_SECONDS
from session import Fault, complete, download, put, start, upload, wait

SIZE = 400 << 20


@pytest.fixture
def small_disk(folder):
    """A file system of its own, mounted from a file."""
    if os.geteuid() != 0 or not tool("mke2fs"):
        pytest.skip("a small file system needs root and mke2fs")
    backing, mount = folder / "small.img", folder / "small"
    mount.mkdir()
    with backing.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([tool("mke2fs"), "-q", "-t", "ext4", "-m", "0", str(backing)], check=True, timeout=ANSWER_SECONDS)
    done = subprocess.run(["mount", "-o", "loop", str(backing), str(mount)], capture_output=True, text=True, timeout=ANSWER_SECONDS)
    if done.returncode != 0:
        pytest.skip(f"no loop device here: {done.stderr.strip()}")
    yield mount
    subprocess.run(["umount", "--lazy", str(mount)], check=True, timeout=ANSWER_SECONDS)
    mount.rmdir()
    backing.unlink()


def fill(ebs, snapshot: str, name: str) -> dict:
    """Puts unique blocks until one fails; answers those that did not."""
    stored = {}
    for index in range(2000):
        try:
            put(ebs, snapshot, index, unique((name, index)))
        except ClientError:
            return stored
        stored[index] = unique((name, index))
    raise AssertionError("the disk never filled")


@pytest.mark.timeout(400)
def test_full_disk(small_disk, fresh):
    settings = small_disk.parent / "full-disk.toml"
    settings.write_text('[store]\nreserve = "64MiB"\n')
    server = fresh("--config", str(settings), data=small_disk / "data", started=False)
    server.log = small_disk.parent / "full-disk.log"
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    kept = {index: unique(("kept", index)) for index in range(20)}
    snapshot = upload(ebs, ec2, kept)
    doomed = upload(ebs, ec2, {index: unique(("doomed", index)) for index in range(20)})

    filling = start(ebs)
    stored, failures = {}, []
    for index in range(2000):
        try:
            put(ebs, filling, index, unique(("filling", index)))
            stored[index] = unique(("filling", index))
        except ClientError as error:
            failures.append(Fault(error))
            if len(failures) == 5:
                break
    assert len(failures) == 5, "the disk never filled"
    for found in failures:
        assert (found.status, found.code) == (500, "InternalServerException"), found
    assert len(stored) > 50
    assert "space" in server.log_text().lower(), server.log_tail()

    # Reads, a completion of what is there, and deletes go on.
    assert download(ebs, snapshot) == kept
    assert server.get("/healthz").status in (200, 503)
    complete(ebs, filling, stored)
    wait(ec2, filling)
    ec2.delete_snapshot(SnapshotId=doomed)

    server.kill()
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    assert download(ebs, snapshot) == kept
    assert download(ebs, filling) == stored
    # What is stored already needs no room.
    again = start(ebs)
    assert put(ebs, again, 0, kept[0])["ResponseMetadata"]["HTTPStatusCode"] == 201
    found = None
    try:
        put(ebs, again, 1, unique("one more"))
    except ClientError as error:
        found = Fault(error)
    assert found is None or found.code == "InternalServerException", found
    ec2.delete_snapshot(SnapshotId=filling)


@pytest.mark.timeout(500)
def test_deletes_make_room_without_being_asked(small_disk, fresh):
    """Puts that find no space have garbage collected, twice in a row, so that the clients' own retries succeed."""
    settings = small_disk.parent / "full-disk.toml"
    settings.write_text('[store]\nreserve = "64MiB"\n')
    server = fresh("--config", str(settings), data=small_disk / "data", started=False)
    server.log = small_disk.parent / "making-room.log"
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    kept = {index: unique(("kept", index)) for index in range(20)}
    snapshot = upload(ebs, ec2, kept)
    filling = start(ebs)
    assert len(fill(ebs, filling, "filling")) > 200
    ec2.delete_snapshot(SnapshotId=filling)

    again, deadline = start(ebs), time.monotonic() + ANSWER_SECONDS
    blocks = {index: unique(("again", index)) for index in range(200)}
    for index, data in blocks.items():
        while True:
            try:
                put(ebs, again, index, data)
                break
            except ClientError as error:
                assert Fault(error).code == "InternalServerException", error
                assert time.monotonic() < deadline, server.log_tail()
                time.sleep(0.5)
    complete(ebs, again, blocks)
    wait(ec2, again)
    assert download(ebs, again) == blocks
    assert download(ebs, snapshot) == kept
    assert "puts find no space: collecting garbage now" in server.log_text()
