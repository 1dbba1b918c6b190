"""CompleteSnapshot (SPEC 2.3, 3.3, 3.4): counts, aggregates, and what a repeat answers."""

import pytest
from content import BLOCK, ZERO, aggregate, checksum, digest, letter
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

COUNT = "Changed blocks count mismatch for snapshot"
CHECKSUM = "Checksum mismatch for snapshot"
SUM = aggregate({0: letter("a")})


@pytest.fixture
def pending(ebs):
    """A pending snapshot with one block, a at 0."""
    snapshot = start(ebs)
    put(ebs, snapshot, 0, letter("a"))
    return snapshot


def test_answer(ebs, ec2, pending):
    answer = ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=1)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["Status"] == "pending"
    wait(ec2, pending)


def test_sealed_and_completed_refuse_puts(ebs, ec2, pending):
    ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=1)
    call = lambda: put(ebs, pending, 1, letter("b"))
    invalid(call, "INVALID_SNAPSHOT_ID", "Snapshot is already completed")
    wait(ec2, pending)
    invalid(call, "INVALID_SNAPSHOT_ID", "Snapshot is already completed")


def test_count_negative(unchecked, pending):
    rule = "Member must have value greater than or equal to 0"
    call = {"SnapshotId": pending, "ChangedBlocksCount": -1}
    constraint(unchecked.complete_snapshot, "changedBlocksCount", rule, **call)


def test_count_missing(server, pending):
    from wire import Request

    reply = Request(server, "POST", f"/snapshots/completion/{pending}").sign().send()
    assert (reply.status, reply.code) == (400, "ValidationException"), reply
    assert "Value null at 'changedBlocksCount'" in reply.json["message"]


@pytest.mark.parametrize(
    "member, name, values",
    [("ChecksumAlgorithm", "checksumAlgorithm", "[SHA256]"), ("ChecksumAggregationMethod", "checksumAggregationMethod", "[LINEAR]")],
)
def test_enumerations(unchecked, pending, member, name, values):
    right = {"Checksum": SUM, "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    rule = f"Member must satisfy enum value set: {values}"
    call = {"SnapshotId": pending, "ChangedBlocksCount": 1, **right, member: "SHA1"}
    constraint(unchecked.complete_snapshot, name, rule, **call)


def test_checksum_that_is_not_base64(unchecked, pending):
    rule = "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=]+$"
    three = {"Checksum": "not-base64!", "ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}
    call = {"SnapshotId": pending, "ChangedBlocksCount": 1, **three}
    constraint(unchecked.complete_snapshot, "checksum", rule, **call)


PREFIX = "Invalid parameter combination. "


@pytest.mark.parametrize(
    "given, message",
    [
        ({"Checksum": SUM}, "Checksum algorithm is missing."),
        ({"ChecksumAlgorithm": "SHA256"}, "Snapshot checksum is missing."),
        ({"ChecksumAggregationMethod": "LINEAR"}, "Snapshot checksum is missing."),
        ({"ChecksumAlgorithm": "SHA256", "ChecksumAggregationMethod": "LINEAR"}, None),
        ({"Checksum": SUM, "ChecksumAggregationMethod": "LINEAR"}, None),
        ({"Checksum": SUM, "ChecksumAlgorithm": "SHA256"}, None),
    ],
)
def test_all_three_or_none(ebs, pending, given, message):
    found = invalid(
        ebs.complete_snapshot,
        "INVALID_PARAMETER_VALUE",
        message and PREFIX + message,
        SnapshotId=pending,
        ChangedBlocksCount=1,
        **given,
    )
    assert found.message.startswith(PREFIX)


def test_refusals_do_not_seal(ebs, unchecked, ec2, pending):
    fault(unchecked.complete_snapshot, SnapshotId=pending, ChangedBlocksCount=-1)
    fault(ebs.complete_snapshot, SnapshotId=pending, ChangedBlocksCount=1, Checksum=SUM)
    put(ebs, pending, 1, letter("b"))
    complete(ebs, pending, {0: letter("a"), 1: letter("b")})
    wait(ec2, pending)


@pytest.mark.parametrize("count", [0, 2, 2048])
def test_wrong_count(ebs, ec2, pending, count):
    answer = ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=count)
    assert answer["Status"] == "pending"
    assert wait_error(ec2, pending) == COUNT
    seen = ec2.describe_snapshots(SnapshotIds=[pending])["Snapshots"][0]
    assert seen["Progress"] == "0%" and "CompletionTime" not in seen
    again = ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=1)
    assert again["Status"] == "error"
    not_found(ebs.list_snapshot_blocks, of=pending, SnapshotId=pending)


def test_wrong_aggregate(ebs, ec2, pending):
    assert complete(ebs, pending, {0: letter("b")}) == "pending"
    assert wait_error(ec2, pending) == CHECKSUM


def test_aggregate_of_base64_text_is_wrong(ebs, ec2):
    """The text of the API reference can be read this way; AWS does not."""
    import base64
    import hashlib

    blocks = {0: letter("a"), 2: letter("b")}
    text = "".join(checksum(data) for data in blocks.values()).encode()
    wrong = base64.b64encode(hashlib.sha256(text).digest()).decode()
    assert wrong == "xKsCRmgUxD/XwebcOgEG4QQ7TRElxCfHnSnsGQDz4pU="
    snapshot = start(ebs)
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
    ebs.complete_snapshot(
        SnapshotId=snapshot,
        ChangedBlocksCount=2,
        Checksum=wrong,
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )
    assert wait_error(ec2, snapshot) == CHECKSUM


def test_empty_snapshot(ebs, ec2):
    assert aggregate({}) == "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
    snapshot = upload(ebs, ec2, {})
    assert list_blocks(ebs, snapshot) == {}
    assert wait(ec2, snapshot)["FullSnapshotSizeInBytes"] == 0


@pytest.mark.parametrize("count", [1, 0, 99])
def test_repeat_after_completion(ebs, ec2, count):
    snapshot = upload(ebs, ec2, {0: letter("a")})
    answer = ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=count)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert answer["Status"] == "completed"
    assert download(ebs, snapshot) == {0: letter("a")}


def test_repeat_while_sealed_changes_nothing(ebs, ec2, pending):
    for count in (1, 99, 1):
        ebs.complete_snapshot(SnapshotId=pending, ChangedBlocksCount=count)
    wait(ec2, pending)


def test_unknown(ebs):
    missing = "snap-0123456789abcdef1"
    not_found(ebs.complete_snapshot, of=missing, SnapshotId=missing, ChangedBlocksCount=0)


def test_deleted(ebs, ec2, pending):
    ec2.delete_snapshot(SnapshotId=pending)
    not_found(ebs.complete_snapshot, of=pending, SnapshotId=pending, ChangedBlocksCount=1)


A, B, C = letter("a"), letter("b"), letter("c")


def test_vectors_of_single_blocks():
    from content import COUNTING

    assert checksum(A) == "Qib0wLZSCPxxAsnoZ1mqGTwYYUfxBvjcHbuEUOOwNdw="
    assert checksum(B) == "7MZ7lYcAJrKN1JmUX5CDaVV97bthlt/bgN4AmbQDHTA="
    assert checksum(C) == "4b2+EkHNyDn49FNHyinzwIPoVBW30eVGlR/lZ/NPTvE="
    assert checksum(ZERO) == "B4VNL+8pega6gWheZgwzLeNtXRjVRpJ9MNqtbX/aFUE="
    assert checksum(COUNTING) == "M7yKq0BwNnjD6+lNLdjyr/8oXdkB+SNOhB5GefggT9U="
    assert len(digest(A)) == 32


@pytest.mark.parametrize(
    "blocks, expected",
    [
        ({0: A}, "hm74cqkUPpcI9ua01PNSVN2PLTzQAAMPsYCbeHfLIX4="),
        ({0: B, 3: A, 7: ZERO, 2047: C}, "Pq34jf4xh07iqiQpo/morRl/xL06mqy1ERimH+Hypi8="),
        ({0: ZERO, 3: A, 5: B}, "hf4A3LvWy4effbPmcB9iS2uEagRPJ7DdLQQXLJYnpsg="),
    ],
)
def test_vectors_of_aggregates(ebs, ec2, blocks, expected):
    assert aggregate(blocks) == expected
    snapshot = upload(ebs, ec2, blocks)
    assert download(ebs, snapshot) == blocks
    assert wait(ec2, snapshot)["FullSnapshotSizeInBytes"] == len(blocks) * BLOCK


def test_vector_of_a_child_leaves_out_what_it_inherits(ebs, ec2):
    parent = upload(ebs, ec2, {0: A, 3: B})
    assert aggregate({3: C}) == "3QuxqZ8HJaS/3NGrkGu/SIvWC/T/bzQSE0bYb+gLjwU="
    child = upload(ebs, ec2, {3: C}, ParentSnapshotId=parent)
    assert download(ebs, child) == {0: A, 3: C}


def test_order_of_writing_does_not_matter(ebs, ec2):
    blocks = {7: A, 1: B, 2047: C, 0: ZERO}
    snapshot = start(ebs)
    for index, data in blocks.items():
        put(ebs, snapshot, index, data)
    complete(ebs, snapshot, blocks)
    wait(ec2, snapshot)
