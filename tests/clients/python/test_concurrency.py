"""Many clients at once: 64 threads putting and getting, and verbs that meet on one snapshot."""

import threading
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError
from content import ZERO, letter, unique
from server import ANSWER_SECONDS
from session import Fault, complete, download, get, list_blocks, put, start, upload, wait

THREADS = 64


def test_sixty_four_threads(ebs, ec2):
    blocks = {index: unique(("threads", index % 200)) for index in range(256)}
    snapshot = start(ebs)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda item: put(ebs, snapshot, *item), blocks.items()))
    complete(ebs, snapshot, blocks)
    wait(ec2, snapshot)
    tokens = list_blocks(ebs, snapshot)
    assert sorted(tokens) == sorted(blocks)

    def check(index):
        assert get(ebs, snapshot, index, tokens[index]) == blocks[index]

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(check, [*blocks] * 2))


def test_writers_and_readers_together(ebs, ec2):
    old = upload(ebs, ec2, {index: unique(("old", index)) for index in range(32)})
    tokens = list_blocks(ebs, old)
    fresh = {index: unique(("new", index)) for index in range(96)}
    snapshot = start(ebs, ParentSnapshotId=old)

    def read(index):
        assert get(ebs, old, index % 32, tokens[index % 32]) == unique(("old", index % 32))

    with ThreadPoolExecutor(THREADS) as pool:
        work = [pool.submit(put, ebs, snapshot, i, data) for i, data in fresh.items()]
        work += [pool.submit(read, index) for index in range(192)]
        for done in work:
            done.result()
    complete(ebs, snapshot, fresh)
    wait(ec2, snapshot)
    assert download(ebs, snapshot, threads=16) == fresh


def test_same_block_in_many_snapshots_at_once(ebs, ec2):
    """The first put of some content and its duplicates meet in one batch."""
    data = unique("shared by all")
    snapshots = [start(ebs) for _ in range(16)]
    with ThreadPoolExecutor(THREADS) as pool:
        work = [pool.submit(put, ebs, s, i, data) for s in snapshots for i in range(8)]
        for done in work:
            done.result()
    for snapshot in snapshots:
        complete(ebs, snapshot, {index: data for index in range(8)})
    for snapshot in snapshots:
        wait(ec2, snapshot)
        assert download(ebs, snapshot) == {index: data for index in range(8)}


def test_one_index_written_by_all_ends_with_one_of_them(ebs, ec2):
    versions = [unique(("version", n)) for n in range(16)] + [ZERO]
    snapshot = start(ebs)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda data: put(ebs, snapshot, 9, data), versions * 3))
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    wait(ec2, snapshot)
    assert download(ebs, snapshot)[9] in versions


def test_puts_against_complete(ebs, ec2):
    """Every put is either acknowledged and inside, or refused and outside."""
    for _ in range(5):
        snapshot = start(ebs)
        acknowledged, refused = set(), []
        ready = threading.Barrier(9)

        def write(first):
            ready.wait(ANSWER_SECONDS)
            for index in range(first, 64, 8):
                try:
                    put(ebs, snapshot, index, letter("a"))
                    acknowledged.add(index)
                except ClientError as error:
                    refused.append(Fault(error))

        threads = [threading.Thread(target=write, args=(first,)) for first in range(8)]
        for thread in threads:
            thread.start()
        ready.wait(ANSWER_SECONDS)
        while len(acknowledged) < 16:
            pass
        # The count is a guess: what matters is that puts after the seal are refused.
        ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=64)
        for thread in threads:
            thread.join(ANSWER_SECONDS)
        for fault in refused:
            assert fault.code in ("ValidationException", "ResourceNotFoundException"), fault
            assert fault.reason in ("INVALID_SNAPSHOT_ID", "SNAPSHOT_NOT_FOUND"), fault
        seen = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        if len(acknowledged) == 64:
            wait(ec2, snapshot)
            assert sorted(download(ebs, snapshot)) == list(range(64))
        else:
            assert seen["State"] in ("pending", "error")


def test_puts_against_delete(ebs, ec2):
    snapshot = start(ebs)
    codes = set()

    def write(index):
        try:
            put(ebs, snapshot, index, letter("a"))
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])

    with ThreadPoolExecutor(16) as pool:
        work = [pool.submit(write, index) for index in range(200)]
        ec2.delete_snapshot(SnapshotId=snapshot)
        for done in work:
            done.result()
    assert codes <= {"ResourceNotFoundException"}


def test_reads_against_delete(ebs, ec2):
    """A read gives the right bytes or SNAPSHOT_NOT_FOUND, never anything else."""
    blocks = {index: unique(("doomed", index)) for index in range(16)}
    snapshot = upload(ebs, ec2, blocks)
    tokens = list_blocks(ebs, snapshot)
    codes = set()

    def read(index):
        try:
            assert get(ebs, snapshot, index % 16, tokens[index % 16]) == blocks[index % 16]
        except ClientError as error:
            codes.add(error.response["Error"]["Code"])

    with ThreadPoolExecutor(16) as pool:
        work = [pool.submit(read, index) for index in range(200)]
        ec2.delete_snapshot(SnapshotId=snapshot)
        for done in work:
            done.result()
    assert codes <= {"ResourceNotFoundException"}
