"""SIGKILL at bad moments: what was acknowledged is there after the next start (DESIGN 2.3)."""

import itertools
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from content import ZERO, letter, unique
from server import ANSWER_SECONDS
from session import complete, download, fault, list_changed, put, put_all, start, upload, wait, wait_error

GONE = (BotoCoreError, ClientError, OSError)


def write_until_killed(server, snapshot, blocks: dict, after: int, threads: int = 8) -> set:
    """Puts from many threads; kills the server after `after` answers; answers the acknowledged indexes."""
    ebs = server.client("ebs")
    acknowledged = set()
    todo = iter(list(blocks.items()))
    lock = threading.Lock()
    enough = threading.Event()

    def work():
        while True:
            with lock:
                index, data = next(todo, (None, None))
            if index is None:
                return
            try:
                put(ebs, snapshot, index, data)
            except GONE:
                return
            acknowledged.add(index)
            if len(acknowledged) >= after:
                enough.set()

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    assert enough.wait(ANSWER_SECONDS), server.log_tail()
    server.kill()
    for worker in workers:
        worker.join(ANSWER_SECONDS)
    return acknowledged


@pytest.mark.timeout(500)
def test_kills_in_the_middle_of_puts(fresh):
    """Six times on one directory and one pending snapshot; only what was not acknowledged is sent again."""
    server = fresh()
    snapshot = start(server.client("ebs"))
    blocks = {
        index: ZERO if index % 7 == 0 else letter("a") if index % 7 == 1 else unique(("crash", index))
        for index in range(240)
    }
    kept = set()
    for round in range(6):
        rest = {index: data for index, data in blocks.items() if index not in kept}
        kept |= write_until_killed(server, snapshot, rest, after=5 + 6 * round)
        server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    put_all(ebs, snapshot, {index: data for index, data in blocks.items() if index not in kept})
    assert complete(ebs, snapshot, blocks) == "pending"
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == blocks


@pytest.mark.timeout(500)
def test_kills_right_after_complete(fresh):
    """The finisher resumes from the seal, wherever it was."""
    server = fresh()
    blocks = {index: letter("abc"[index % 3]) for index in range(300)}
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    parent = upload(ebs, ec2, {0: unique("parent"), 2000: ZERO})
    sealed = []
    for delay in (0, 0, 0.001, 0.003, 0.01, 0.03, 0.1):
        snapshot = start(ebs, ParentSnapshotId=parent)
        put_all(ebs, snapshot, blocks)
        assert complete(ebs, snapshot, blocks) == "pending"
        time.sleep(delay)
        server.kill()
        server.start()
        ebs, ec2 = server.client("ebs"), server.client("ec2")
        assert fault(lambda: put(ebs, snapshot, 1, ZERO)).message == "Snapshot is already completed"
        sealed.append(snapshot)
    for snapshot in sealed:
        wait(ec2, snapshot)
        assert download(ebs, snapshot, threads=16) == {**blocks, 2000: ZERO}
        assert len(list_changed(ebs, parent, snapshot)) == len(blocks)


def test_wrong_completion_is_still_wrong_after_a_kill(fresh):
    server = fresh()
    ebs = server.client("ebs")
    snapshot = start(ebs)
    put(ebs, snapshot, 0, letter("a"))
    complete(ebs, snapshot, {0: letter("b")})
    server.kill()
    server.start()
    assert wait_error(server.client("ec2"), snapshot) == "Checksum mismatch for snapshot"


def test_starts_tags_and_deletes_survive_a_kill(fresh):
    server = fresh()
    gone, kept = [], {}
    for round in range(5):
        ebs, ec2 = server.client("ebs"), server.client("ec2")
        for number in range(3):
            snapshot = start(ebs, Description=f"{round} {number}")
            ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "round", "Value": str(round)}])
            kept[snapshot] = str(round)
        doomed = start(ebs)
        ec2.delete_snapshot(SnapshotId=doomed)
        gone.append(doomed)
        server.kill()
        server.start()
    ec2 = server.client("ec2")
    seen = {s["SnapshotId"]: s for s in ec2.describe_snapshots()["Snapshots"]}
    assert set(seen) == set(kept)
    for snapshot, round in kept.items():
        assert seen[snapshot]["Tags"] == [{"Key": "round", "Value": round}]
    for snapshot in gone:
        assert fault(ec2.describe_snapshots, SnapshotIds=[snapshot]).code == "InvalidSnapshot.NotFound"


def test_kill_and_stop_leave_the_same(fresh):
    """There is no path of clean shutdown: the same reads after SIGTERM and after SIGKILL."""
    server = fresh()
    blocks = {index: unique(("stop", index)) for index in range(20)}
    snapshot = upload(server.client("ebs"), server.client("ec2"), blocks)
    for end in (server.stop, server.kill, server.stop):
        end()
        server.start()
        assert download(server.client("ebs"), snapshot) == blocks


def test_stop_while_clients_write(fresh):
    """A graceful stop answers what it has taken, within its time."""
    server = fresh()
    ebs = server.client("ebs")
    snapshot = start(ebs)
    acknowledged = set()
    counter = itertools.count()

    def work():
        try:
            while True:
                index = next(counter)
                put(ebs, snapshot, index, letter("a"))
                acknowledged.add(index)
        except GONE:
            pass

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    while len(acknowledged) < 50:
        time.sleep(0.01)
    assert server.stop() == 0
    for worker in workers:
        worker.join(ANSWER_SECONDS)
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    # Puts in flight may be in or not: send the last few again, as a client would.
    blocks = {index: letter("a") for index in range(max(acknowledged) + 9)}
    put_all(ebs, snapshot, {index: data for index, data in blocks.items() if index not in acknowledged})
    complete(ebs, snapshot, blocks)
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == blocks
