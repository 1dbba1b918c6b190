"""PutSnapshotBlock (SPEC 2.2, 3.2): every refusal leaves no trace; every order of writing is allowed."""

import io

import pytest
from content import BLOCK, COUNTING, ZERO, checksum, letter, unique
from session import (
    complete,
    constraint,
    download,
    fault,
    invalid,
    list_blocks,
    not_found,
    put,
    start,
    upload,
    wait,
    wait_error,
)


@pytest.fixture(scope="module")
def snapshot(ebs):
    return start(ebs)


def test_answer(ebs, snapshot):
    answer = put(ebs, snapshot, 0, letter("a"), Progress=5)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert answer["Checksum"] == checksum(letter("a"))
    assert answer["ChecksumAlgorithm"] == "SHA256"


def test_wrong_checksum(ebs, snapshot):
    found = fault(lambda: put(ebs, snapshot, 0, letter("a"), Checksum=checksum(letter("b"))))
    assert (found.status, found.code, found.reason) == (403, "InvalidSignatureException", None)
    assert found.message == (
        "The value passed in as x-amz-Checksum does not match the computed checksum. "
        f"Computed checksum: {checksum(letter('a'))} expected checksum: {checksum(letter('b'))}"
    )


def test_wrong_algorithm(ebs, snapshot):
    invalid(
        lambda: put(ebs, snapshot, 0, letter("a"), ChecksumAlgorithm="SHA1"),
        "INVALID_PARAMETER_VALUE",
        "Unsupported Checksum Algorithm 'SHA1', supported algorithms are SHA256",
    )


@pytest.mark.parametrize("length", [1, 0, 524287, 1048576])
def test_wrong_data_length(ebs, snapshot, length):
    invalid(
        lambda: put(ebs, snapshot, 0, letter("a"), DataLength=length),
        "INVALID_BLOCK",
        f"Block data length {length} is not valid, expected 524288",
    )


@pytest.mark.parametrize("length", [0, 1, BLOCK - 1, BLOCK + 1, 2 * BLOCK])
@pytest.mark.parametrize("said", ["true", "block"])
def test_wrong_body_length(ebs, snapshot, length, said):
    data = (letter("a") * 2)[:length]
    claimed = {"true": length, "block": BLOCK}[said]
    invalid(
        lambda: put(ebs, snapshot, 0, data, DataLength=claimed),
        "INVALID_PARAMETER_VALUE",
        "Failed to read block data",
    )


@pytest.mark.parametrize("index", [2048, 2049, 1 << 27, (1 << 31) - 1])
def test_index_beyond_the_volume(ebs, snapshot, index):
    invalid(
        lambda: put(ebs, snapshot, index, letter("a")),
        "INVALID_BLOCK",
        f"Block index {index} is beyond the volume size extent",
    )


def test_last_index(ebs, snapshot):
    put(ebs, snapshot, 2047, letter("a"))


def test_negative_index(unchecked, snapshot):
    rule = "Member must have value greater than or equal to 0"
    found = constraint(lambda: put(unchecked, snapshot, -1, letter("a")), "blockIndex", rule)
    assert found.message == (
        "1 validation error detected: Value '-1' at 'blockIndex' failed to satisfy constraint: " + rule
    )


@pytest.mark.parametrize("progress, rule", [(-1, "greater than or equal to 0"), (101, "less than or equal to 100")])
def test_progress_bounds(unchecked, snapshot, progress, rule):
    rule = f"Member must have value {rule}"
    constraint(lambda: put(unchecked, snapshot, 0, letter("a"), Progress=progress), "progress", rule)


@pytest.mark.parametrize("progress", [0, 100])
def test_progress_limits_are_allowed(ebs, snapshot, progress):
    put(ebs, snapshot, 0, letter("a"), Progress=progress)


def test_checksum_that_is_not_base64(unchecked, snapshot):
    rule = "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$"
    call = lambda: put(unchecked, snapshot, 0, letter("a"), Checksum="not-base64!")
    constraint(call, "checksum", rule)


def test_two_constraints_are_told_together(unchecked, snapshot):
    call = lambda: put(unchecked, snapshot, -1, letter("a"), Progress=101)
    found = constraint(call, "blockIndex", "Member must have value greater than or equal to 0")
    assert found.message.startswith("2 validation errors detected: ")
    assert "at 'progress'" in found.message and "; " in found.message


def test_snapshot_unknown(ebs):
    missing = "snap-0123456789abcdef1"
    not_found(lambda: put(ebs, missing, 0, letter("a")), of=missing)


def test_snapshot_deleted(ebs, ec2):
    gone = start(ebs)
    put(ebs, gone, 0, letter("a"))
    ec2.delete_snapshot(SnapshotId=gone)
    not_found(lambda: put(ebs, gone, 1, letter("a")), of=gone)


def test_snapshot_in_error(ebs, ec2):
    bad = start(ebs)
    ebs.complete_snapshot(SnapshotId=bad, ChangedBlocksCount=1)
    wait_error(ec2, bad)
    not_found(lambda: put(ebs, bad, 0, letter("a")), of=bad)


def test_snapshot_completed(ebs, ec2):
    done = upload(ebs, ec2, {0: letter("a")})
    call = lambda: put(ebs, done, 1, letter("a"))
    invalid(call, "INVALID_SNAPSHOT_ID", "Snapshot is already completed")


def test_existence_is_checked_before_the_body(ebs):
    missing = "snap-0123456789abcdef1"
    not_found(lambda: put(ebs, missing, 0, b"short", DataLength=5), of=missing)


def test_constraints_are_checked_before_existence(unchecked):
    rule = "Member must have value less than or equal to 100"
    call = lambda: put(unchecked, "snap-0123456789abcdef1", 0, letter("a"), Progress=101)
    constraint(call, "progress", rule)


def test_last_write_wins_and_counts_once(ebs, ec2):
    snapshot = start(ebs)
    for data in (letter("a"), letter("a"), ZERO, letter("b")):
        put(ebs, snapshot, 3, data)
    complete(ebs, snapshot, {3: letter("b")})
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == {3: letter("b")}


def test_zero_blocks_are_ordinary_blocks(ebs, ec2):
    blocks = {0: ZERO, 1: letter("a"), 2: ZERO, 2047: ZERO}
    snapshot = upload(ebs, ec2, blocks)
    assert list(list_blocks(ebs, snapshot)) == [0, 1, 2, 2047]
    assert download(ebs, snapshot) == blocks
    assert wait(ec2, snapshot)["FullSnapshotSizeInBytes"] == 4 * BLOCK


def test_zero_overwrites_data(ebs, ec2):
    snapshot = start(ebs)
    put(ebs, snapshot, 3, letter("a"))
    put(ebs, snapshot, 3, ZERO)
    complete(ebs, snapshot, {3: ZERO})
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == {3: ZERO}


def test_refused_puts_leave_no_trace(ebs, unchecked, ec2):
    snapshot = start(ebs)
    put(ebs, snapshot, 1, letter("a"))
    wrong = [
        {"Checksum": checksum(letter("c"))},
        {"ChecksumAlgorithm": "SHA1"},
        {"DataLength": 1},
        {"Progress": 101},
        {"BlockData": letter("b")[:-1]},
        {"BlockData": letter("b") + b"x"},
    ]
    for index in (1, 2):
        for change in wrong:
            fault(lambda: put(unchecked, snapshot, index, letter("b"), **change))
    complete(ebs, snapshot, {1: letter("a")})
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == {1: letter("a")}


def test_any_order(ebs, ec2):
    blocks = {index: unique(("order", index)) for index in (2047, 3, 1024, 0, 128, 127, 129)}
    snapshot = start(ebs)
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
    complete(ebs, snapshot, blocks)
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == blocks


class Stream(io.RawIOBase):
    """A body that can be neither rewound nor measured: boto3 sends it chunked."""

    def __init__(self, data: bytes, piece: int):
        self.rest, self.piece = data, piece

    def readable(self):
        return True

    def read(self, size=-1):
        size = self.piece if size is None or size < 0 else min(size, self.piece)
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece

    def seekable(self):
        return False


@pytest.mark.parametrize("piece", [1000, 8192, BLOCK])
def test_chunked_body_from_a_stream(ebs, ec2, piece):
    snapshot = start(ebs)
    answer = put(ebs, snapshot, 9, Stream(COUNTING, piece), Checksum=checksum(COUNTING))
    assert answer["Checksum"] == checksum(COUNTING)
    complete(ebs, snapshot, {9: COUNTING})
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == {9: COUNTING}


@pytest.mark.parametrize("data", [b"", COUNTING[:-1], COUNTING + b"x", COUNTING * 2])
def test_chunked_body_of_wrong_length(ebs, snapshot, data):
    call = lambda: put(ebs, snapshot, 9, Stream(data, 8192), Checksum=checksum(COUNTING))
    invalid(call, "INVALID_PARAMETER_VALUE", "Failed to read block data")


def test_malformed_snapshot_ids(unchecked):
    for bad in ("snap-XYZ", "vol-1", "snap-", "snap-" + "0" * 60, "snap-\u00e9"):
        found = fault(lambda: put(unchecked, bad, 0, letter("a")))
        assert (found.status, found.code, found.reason) == (400, "ValidationException", None), bad
        assert "at 'snapshotId'" in found.message, found


def test_missing_headers(server):
    from wire import put_request

    snapshot = start(server.client("ebs"))
    members = {
        "x-amz-Data-Length": "dataLength",
        "x-amz-Checksum": "checksum",
        "x-amz-Checksum-Algorithm": "checksumAlgorithm",
    }
    for header, member in members.items():
        request = put_request(server, snapshot, 0, letter("a"))
        del request.headers[header]
        reply = request.sign().send()
        assert (reply.status, reply.code) == (400, "ValidationException"), reply
        expected = f"Value null at '{member}' failed to satisfy constraint: Member must not be null"
        assert expected in reply.json["message"], reply


def test_headers_that_are_no_numbers(server):
    from wire import put_request

    snapshot = start(server.client("ebs"))
    for header, value in {"x-amz-Data-Length": "many", "x-amz-Progress": "half"}.items():
        reply = put_request(server, snapshot, 0, letter("a"), **{header: value}).sign().send()
        assert reply.status == 400, reply
        assert reply.json["message"] and reply.json["__type"] == reply.code, reply
