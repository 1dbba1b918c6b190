"""StartSnapshot (SPEC 2.1): answers, limits and refusals."""

import datetime
import re

import pytest
from content import letter
from session import complete, constraint, fault, invalid, not_found, put, start, upload, wait, wait_error


def test_answer_has_every_member(ebs):
    answer = ebs.start_snapshot(VolumeSize=3, Description="text", Tags=[{"Key": "k", "Value": "v"}])
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert re.fullmatch(r"snap-[0-9a-f]{17}", answer["SnapshotId"])
    assert re.fullmatch(r"[0-9]{12}", answer["OwnerId"])
    assert answer["Status"] == "pending"
    assert answer["VolumeSize"] == 3
    assert answer["BlockSize"] == 524288
    assert answer["Description"] == "text"
    assert answer["Tags"] == [{"Key": "k", "Value": "v"}]
    age = datetime.datetime.now(datetime.timezone.utc) - answer["StartTime"]
    assert abs(age) < datetime.timedelta(minutes=1)


def test_absent_members_are_null(ebs):
    answer = ebs.start_snapshot(VolumeSize=1)
    # botocore drops nulls.
    for member in ("Description", "Tags", "ParentSnapshotId", "KmsKeyArn", "SseType"):
        assert member not in answer


def test_empty_tag_list_is_no_tags(ebs):
    assert not ebs.start_snapshot(VolumeSize=1, Tags=[]).get("Tags")


def test_parent_is_named_in_the_answer(ebs, ec2):
    parent = upload(ebs, ec2, {0: letter("a")})
    answer = ebs.start_snapshot(VolumeSize=2, ParentSnapshotId=parent)
    assert answer["ParentSnapshotId"] == parent


def test_largest_volume(ebs):
    snapshot = start(ebs, 65536)
    put(ebs, snapshot, 134217727, letter("a"))
    invalid(
        lambda **p: put(ebs, snapshot, 134217728, letter("a")),
        "INVALID_BLOCK",
        "Block index 134217728 is beyond the volume size extent",
    )


def test_volume_too_large(unchecked):
    invalid(unchecked.start_snapshot, "INVALID_VOLUME_SIZE", VolumeSize=65537)


@pytest.mark.parametrize("size", [0, -1])
def test_volume_too_small(unchecked, size):
    rule = "Member must have value greater than or equal to 1"
    constraint(unchecked.start_snapshot, "volumeSize", rule, VolumeSize=size)


def test_volume_size_missing(unchecked):
    found = constraint(unchecked.start_snapshot, "volumeSize", "Member must not be null")
    assert "Value null at 'volumeSize'" in found.message


@pytest.mark.parametrize("minutes, rule", [(9, "greater than or equal to 10"), (4321, "less than or equal to 4320")])
def test_timeout_bounds(unchecked, minutes, rule):
    rule = f"Member must have value {rule}"
    constraint(unchecked.start_snapshot, "timeout", rule, VolumeSize=1, Timeout=minutes)


@pytest.mark.parametrize("minutes", [10, 4320])
def test_timeout_limits_are_allowed(ebs, minutes):
    ebs.start_snapshot(VolumeSize=1, Timeout=minutes)


def test_description_bounds(ebs, unchecked):
    ebs.start_snapshot(VolumeSize=1, Description="d" * 255)
    rule = "Member must have length less than or equal to 255"
    constraint(unchecked.start_snapshot, "description", rule, VolumeSize=1, Description="d" * 256)
    found = fault(unchecked.start_snapshot, VolumeSize=1, Description="")
    assert (found.status, found.code, found.reason) == (400, "ValidationException", None)


def test_unicode_description_comes_back(ebs, ec2):
    text = "größer ☃ \"<&>\" \\ \U0001f9f1"
    answer = ebs.start_snapshot(VolumeSize=1, Description=text)
    assert answer["Description"] == text
    seen = ec2.describe_snapshots(SnapshotIds=[answer["SnapshotId"]])["Snapshots"][0]
    assert seen["Description"] == text


def test_parent_unknown(ebs):
    parent = "snap-0123456789abcdef1"
    not_found(ebs.start_snapshot, of=parent, VolumeSize=1, ParentSnapshotId=parent)


@pytest.mark.parametrize("parent", ["snap-XYZ", "vol-0123456789abcdef0", "snap-" + "0" * 64])
def test_parent_malformed(unchecked, parent):
    found = fault(unchecked.start_snapshot, VolumeSize=1, ParentSnapshotId=parent)
    assert (found.status, found.code, found.reason) == (400, "ValidationException", None), found
    assert "at 'parentSnapshotId'" in found.message


def test_parent_pending(ebs):
    parent = start(ebs)
    invalid(
        ebs.start_snapshot,
        "INVALID_SNAPSHOT_ID",
        f"Source snapshot ({parent}) is not complete.",
        VolumeSize=1,
        ParentSnapshotId=parent,
    )


def test_parent_in_error(ebs, ec2):
    parent = start(ebs)
    ebs.complete_snapshot(SnapshotId=parent, ChangedBlocksCount=7)
    wait_error(ec2, parent)
    not_found(ebs.start_snapshot, of=parent, VolumeSize=1, ParentSnapshotId=parent)


def test_parent_deleted(ebs, ec2):
    parent = upload(ebs, ec2, {0: letter("a")})
    ec2.delete_snapshot(SnapshotId=parent)
    not_found(ebs.start_snapshot, of=parent, VolumeSize=1, ParentSnapshotId=parent)


def test_child_smaller_than_parent(ebs, ec2):
    parent = upload(ebs, ec2, {0: letter("a")}, gib=2)
    invalid(ebs.start_snapshot, "INVALID_VOLUME_SIZE", VolumeSize=1, ParentSnapshotId=parent)


@pytest.mark.parametrize(
    "how",
    [
        {"Encrypted": True},
        {"KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"},
    ],
)
def test_encryption_is_refused_and_never_ignored(ebs, ec2, how):
    before = len(ec2.describe_snapshots()["Snapshots"])
    invalid(ebs.start_snapshot, "INVALID_DEPENDENCY_REQUEST", VolumeSize=1, **how)
    assert len(ec2.describe_snapshots()["Snapshots"]) == before


def test_encrypted_false_is_a_plain_snapshot(ebs):
    assert "KmsKeyArn" not in ebs.start_snapshot(VolumeSize=1, Encrypted=False)


def test_started_is_visible_at_once(ebs, ec2):
    for _ in range(20):
        snapshot = start(ebs)
        seen = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        assert (seen["State"], seen["Progress"]) == ("pending", "0%")


def test_pending_snapshot_cannot_be_read(ebs):
    snapshot = start(ebs)
    put(ebs, snapshot, 0, letter("a"))
    not_found(ebs.list_snapshot_blocks, of=snapshot, SnapshotId=snapshot)
    call = {"SnapshotId": snapshot, "BlockIndex": 0, "BlockToken": "AAAA"}
    not_found(ebs.get_snapshot_block, of=snapshot, **call)


def test_life_as_ec2_sees_it(ebs, ec2):
    snapshot = start(ebs, 1, Description="life")
    put(ebs, snapshot, 5, letter("a"))
    complete(ebs, snapshot, {5: letter("a")})
    seen = wait(ec2, snapshot)
    assert (seen["State"], seen["Progress"]) == ("completed", "100%")
    assert seen["FullSnapshotSizeInBytes"] == 524288
    assert seen["CompletionTime"] >= seen["StartTime"]
    assert seen["VolumeId"] == "vol-ffffffff"
    assert (seen["Encrypted"], seen["VolumeSize"]) == (False, 1)
    assert (seen["StorageTier"], seen["Description"]) == ("standard", "life")
