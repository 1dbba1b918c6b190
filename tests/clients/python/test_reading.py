"""GetSnapshotBlock and ListSnapshotBlocks (SPEC 2.4, 2.5): answers, bounds, holes."""

import datetime

import pytest
from content import BLOCK, ZERO, checksum, letter, unique
from session import constraint, get, invalid, list_blocks, not_found, pages, upload

A = letter("a")
MANY = [index for index in range(467) if index % 4 != 3]


@pytest.fixture(scope="module")
def blocks():
    indexes = [0, 1, 5, 127, 128, 129, 1000, 2047]
    return {index: ZERO if index == 5 else unique(("reading", index)) for index in indexes}


@pytest.fixture(scope="module")
def snapshot(ebs, ec2, blocks):
    return upload(ebs, ec2, blocks)


@pytest.fixture(scope="module")
def many(ebs, ec2):
    """351 blocks of one content, with a hole after every third."""
    return upload(ebs, ec2, {index: A for index in MANY})


def test_get_answer(ebs, snapshot, blocks):
    tokens = list_blocks(ebs, snapshot)
    call = {"SnapshotId": snapshot, "BlockIndex": 1, "BlockToken": tokens[1]}
    answer = ebs.get_snapshot_block(**call)
    metadata = answer["ResponseMetadata"]
    assert metadata["HTTPStatusCode"] == 200
    assert metadata["HTTPHeaders"]["content-type"] == "application/octet-stream"
    assert metadata["HTTPHeaders"]["content-length"] == str(BLOCK)
    assert (answer["DataLength"], answer["ChecksumAlgorithm"]) == (BLOCK, "SHA256")
    assert answer["Checksum"] == checksum(blocks[1])
    assert answer["BlockData"].read() == blocks[1]


def test_every_block_comes_back(ebs, snapshot, blocks):
    tokens = list_blocks(ebs, snapshot)
    assert {index: get(ebs, snapshot, index, token) for index, token in tokens.items()} == blocks


def test_list_answer(ebs, snapshot, blocks):
    answer = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (answer["VolumeSize"], answer["BlockSize"]) == (1, BLOCK)
    assert [block["BlockIndex"] for block in answer["Blocks"]] == sorted(blocks)
    assert "NextToken" not in answer
    life = answer["ExpiryTime"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(days=6.5) < life < datetime.timedelta(days=7.5)
    for block in answer["Blocks"]:
        assert 0 < len(block["BlockToken"]) <= 256


def test_volume_and_block_size_on_every_page(ebs, many):
    found = pages(ebs.list_snapshot_blocks, SnapshotId=many, MaxResults=100)
    assert len(found) >= 4
    for page in found:
        assert (page["VolumeSize"], page["BlockSize"]) == (1, BLOCK)
        assert "ExpiryTime" in page and len(page["Blocks"]) <= 100


@pytest.mark.parametrize("most", [100, 117, 350, 351, 352, 10000])
def test_pages_of_every_size_give_the_same_list(ebs, many, most):
    assert list(list_blocks(ebs, many, MaxResults=most)) == MANY


def test_default_page(ebs, many):
    assert list(list_blocks(ebs, many)) == MANY


@pytest.mark.parametrize("most, rule", [(1, "greater than or equal to 100"), (99, "greater than or equal to 100"), (10001, "less than or equal to 10000")])
def test_max_results_bounds(unchecked, snapshot, most, rule):
    rule = f"Member must have value {rule}"
    call = {"SnapshotId": snapshot, "MaxResults": most}
    found = constraint(unchecked.list_snapshot_blocks, "maxResults", rule, **call)
    assert f"Value '{most}' at 'maxResults'" in found.message


@pytest.mark.parametrize("first, expected", [(0, 0), (2, 5), (5, 5), (6, 127), (130, 1000), (2047, 2047)])
def test_starting_index_is_inclusive_and_skips_holes(ebs, snapshot, first, expected):
    answer = ebs.list_snapshot_blocks(SnapshotId=snapshot, StartingBlockIndex=first)
    assert answer["Blocks"][0]["BlockIndex"] == expected


@pytest.mark.parametrize("first", [2048, 100000, 134217727, 134217728, 2**31 - 1])
def test_starting_index_past_the_end(ebs, snapshot, first):
    answer = ebs.list_snapshot_blocks(SnapshotId=snapshot, StartingBlockIndex=first)
    assert answer["Blocks"] == [] and "NextToken" not in answer
    assert (answer["VolumeSize"], answer["BlockSize"]) == (1, BLOCK)


def test_starting_index_negative(ebs, unchecked, many):
    rule = "Member must have value greater than or equal to 0"
    call = {"SnapshotId": many, "StartingBlockIndex": -1}
    constraint(unchecked.list_snapshot_blocks, "startingBlockIndex", rule, **call)
    token = ebs.list_snapshot_blocks(SnapshotId=many, MaxResults=100)["NextToken"]
    constraint(unchecked.list_snapshot_blocks, "startingBlockIndex", rule, NextToken=token, **call)


def test_starting_index_is_ignored_with_a_token(ebs, many):
    first = ebs.list_snapshot_blocks(SnapshotId=many, MaxResults=100)
    call = {"SnapshotId": many, "NextToken": first["NextToken"], "MaxResults": 100}
    plain = ebs.list_snapshot_blocks(**call)
    moved = ebs.list_snapshot_blocks(StartingBlockIndex=0, **call)
    indexes = lambda page: [block["BlockIndex"] for block in page["Blocks"]]
    assert indexes(plain) == indexes(moved)
    assert indexes(plain)[0] > first["Blocks"][-1]["BlockIndex"]


def test_page_size_may_change_on_the_way(ebs, many):
    first = ebs.list_snapshot_blocks(SnapshotId=many, MaxResults=100)
    rest = ebs.list_snapshot_blocks(SnapshotId=many, MaxResults=10000, NextToken=first["NextToken"])
    assert "NextToken" not in rest
    assert len(first["Blocks"]) + len(rest["Blocks"]) == len(list_blocks(ebs, many))


def test_unknown(ebs):
    missing = "snap-0123456789abcdef1"
    not_found(ebs.list_snapshot_blocks, of=missing, SnapshotId=missing)
    # Existence is decided before the token is looked at.
    call = {"SnapshotId": missing, "BlockIndex": 0, "BlockToken": "AAAA"}
    not_found(ebs.get_snapshot_block, of=missing, **call)


def test_deleted_at_once(ebs, ec2):
    snapshot = upload(ebs, ec2, {0: A})
    token = list_blocks(ebs, snapshot)[0]
    ec2.delete_snapshot(SnapshotId=snapshot)
    not_found(ebs.list_snapshot_blocks, of=snapshot, SnapshotId=snapshot)
    call = {"SnapshotId": snapshot, "BlockIndex": 0, "BlockToken": token}
    not_found(ebs.get_snapshot_block, of=snapshot, **call)


def test_get_of_a_block_that_was_never_written(ebs, snapshot):
    token = list_blocks(ebs, snapshot)[1]
    message = f"The block token {token} is invalid."
    for index in (2, 2048, 134217727):
        call = {"SnapshotId": snapshot, "BlockIndex": index, "BlockToken": token}
        invalid(ebs.get_snapshot_block, "INVALID_BLOCK_TOKEN", message, **call)


def test_head_and_other_methods(server, snapshot):
    from wire import Request

    for method, target in [("DELETE", f"/snapshots/{snapshot}"), ("POST", f"/snapshots/{snapshot}/blocks")]:
        reply = Request(server, method, target).sign().send()
        assert reply.status in (404, 405), reply
        assert reply.json["message"] and reply.json["__type"] == reply.code, reply
