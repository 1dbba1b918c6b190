"""DescribeSnapshots, DeleteSnapshot, tags, regions and STS (SPEC 7), as boto3 speaks them."""

import datetime
import uuid

import pytest
from content import BLOCK, letter
from session import fault, not_found, put, start, upload, wait_error


@pytest.fixture(scope="module")
def group():
    """A word that marks the snapshots of this module."""
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def zoo(ebs, ec2, group):
    """Three snapshots: completed with tags, pending, in error."""
    tags = [{"Key": "group", "Value": group}, {"Key": "Name", "Value": "alpha one"}]
    done = upload(ebs, ec2, {0: letter("a"), 3: letter("b")}, Description=f"{group} done", Tags=tags)
    pending = start(ebs, 2, Description=f"{group} pending", Tags=tags[:1] + [{"Key": "Name", "Value": "beta"}])
    broken = start(ebs, 3, Description=f"{group} [x] * broken", Tags=tags[:1] + [{"Key": "Empty", "Value": ""}])
    ebs.complete_snapshot(SnapshotId=broken, ChangedBlocksCount=1)
    wait_error(ec2, broken)
    return {"done": done, "pending": pending, "broken": broken}


def found(ec2, group, zoo, **parameters) -> set:
    """Names of the zoo's snapshots that a filter selects."""
    filters = [{"Name": "tag:group", "Values": [group]}]
    filters += [{"Name": name, "Values": v if isinstance(v, list) else [v]} for name, v in parameters.items()]
    names = {snapshot: name for name, snapshot in zoo.items()}
    answer = ec2.describe_snapshots(Filters=filters)
    return {names[snapshot["SnapshotId"]] for snapshot in answer["Snapshots"]}


def test_described(ec2, zoo, group):
    seen = ec2.describe_snapshots(SnapshotIds=[zoo["done"]])["Snapshots"][0]
    owner = seen["OwnerId"]
    assert len(owner) == 12 and owner.isdigit()
    assert seen["Tags"] == [{"Key": "Name", "Value": "alpha one"}, {"Key": "group", "Value": group}]
    assert seen["FullSnapshotSizeInBytes"] == 2 * BLOCK
    assert isinstance(seen["StartTime"], datetime.datetime)
    broken = ec2.describe_snapshots(SnapshotIds=[zoo["broken"]])["Snapshots"][0]
    assert (broken["State"], broken["Progress"]) == ("error", "0%")
    assert broken["StateMessage"] == "Changed blocks count mismatch for snapshot"
    pending = ec2.describe_snapshots(SnapshotIds=[zoo["pending"]])["Snapshots"][0]
    assert "StateMessage" not in pending and "FullSnapshotSizeInBytes" not in pending


ALL = {"done", "pending", "broken"}


@pytest.mark.parametrize(
    "name, value, expected",
    [
        ("status", "completed", {"done"}),
        ("status", ["completed", "error"], {"done", "broken"}),
        ("status", "none", set()),
        ("volume-size", "2", {"pending"}),
        ("volume-size", ["1", "3"], {"done", "broken"}),
        ("progress", "100%", {"done"}),
        ("encrypted", "false", ALL),
        ("encrypted", "true", set()),
        ("volume-id", "vol-ffffffff", ALL),
        ("storage-tier", "standard", ALL),
        ("transfer-type", "standard", ALL),
        ("tag:Name", "alpha one", {"done"}),
        ("tag:Name", "a*", {"done"}),
        ("tag:Name", "?eta", {"pending"}),
        ("tag:Name", "ALPHA*", set()),
        ("tag:Empty", "", {"broken"}),
        ("tag-key", "Name", {"done", "pending"}),
        ("tag-key", ["Empty", "Name"], ALL),
        ("tag-key", "N*", {"done", "pending"}),
        ("description", "*pending", {"pending"}),
        ("description", "*[x]*", {"broken"}),
        ("description", "*\\**", {"broken"}),
    ],
)
def test_filters(ec2, group, zoo, name, value, expected):
    assert found(ec2, group, zoo, **{name: value}) == expected


def test_filters_of_ids_owners_and_times(ec2, group, zoo):
    seen = ec2.describe_snapshots(SnapshotIds=[zoo["done"]])["Snapshots"][0]
    assert found(ec2, group, zoo, **{"snapshot-id": zoo["done"]}) == {"done"}
    assert found(ec2, group, zoo, **{"owner-id": seen["OwnerId"]}) == ALL
    assert found(ec2, group, zoo, **{"owner-id": "999999999999"}) == set()
    assert found(ec2, group, zoo, **{"start-time": seen["StartTime"].strftime("%Y-%m-%d*")}) >= {"done"}
    assert found(ec2, group, zoo, **{"start-time": "1999-*"}) == set()


def test_filters_are_all_to_be_met(ec2, group, zoo):
    assert found(ec2, group, zoo, **{"status": "completed", "tag:Name": "beta"}) == set()
    assert found(ec2, group, zoo, **{"status": ["completed", "pending"], "tag-key": "Name"}) == {"done", "pending"}


def test_unknown_filter(ec2):
    answer = fault(ec2.describe_snapshots, Filters=[{"Name": "colour", "Values": ["red"]}])
    assert (answer.status, answer.code) == (400, "InvalidParameterValue"), answer


def test_owners(ec2, zoo):
    ids = {snapshot["SnapshotId"] for snapshot in ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]}
    assert set(zoo.values()) <= ids
    assert ec2.describe_snapshots(OwnerIds=["amazon"])["Snapshots"] == []
    assert ec2.describe_snapshots(OwnerIds=["999999999999"])["Snapshots"] == []


def test_ids_in_any_number(ec2, zoo):
    ids = list(zoo.values())
    seen = ec2.describe_snapshots(SnapshotIds=ids)["Snapshots"]
    assert sorted(snapshot["SnapshotId"] for snapshot in seen) == sorted(ids)


def test_unknown_id_fails_the_call(ec2, zoo):
    missing = "snap-0123456789abcdef1"
    answer = fault(ec2.describe_snapshots, SnapshotIds=[zoo["done"], missing])
    assert (answer.status, answer.code) == (400, "InvalidSnapshot.NotFound")
    assert answer.message == f"The snapshot '{missing}' does not exist."


@pytest.mark.parametrize(
    "bad, codes",
    [
        ("snap-xyz", {"InvalidSnapshotID.Malformed"}),
        ("vol-0123456789abcdef0", {"InvalidParameterValue"}),
        ("SNAP-0123456789abcdef0", {"InvalidParameterValue"}),
    ],
)
def test_malformed_ids(ec2, bad, codes):
    answer = fault(ec2.describe_snapshots, SnapshotIds=[bad])
    assert answer.status == 400 and answer.code in codes, answer


def test_pagination(ebs, ec2):
    word = uuid.uuid4().hex
    made = {start(ebs, Tags=[{"Key": "page", "Value": word}]) for _ in range(23)}
    filters = [{"Name": "tag:page", "Values": [word]}]
    for size in (5, 10, 23, 1000):
        paginator = ec2.get_paginator("describe_snapshots")
        pages = list(paginator.paginate(Filters=filters, PaginationConfig={"PageSize": size}))
        seen = [snapshot["SnapshotId"] for page in pages for snapshot in page["Snapshots"]]
        assert len(seen) == 23 and set(seen) == made
        assert all(len(page["Snapshots"]) <= size for page in pages)


def test_pagination_limits(ec2, zoo):
    for most in (4, 1001):
        answer = fault(ec2.describe_snapshots, MaxResults=most)
        assert answer.status == 400 and answer.code == "InvalidParameterValue", answer
    answer = fault(ec2.describe_snapshots, MaxResults=5, NextToken="forged")
    assert answer.status == 400, answer
    answer = fault(ec2.describe_snapshots, MaxResults=5, SnapshotIds=[zoo["done"]])
    assert (answer.status, answer.code) == (400, "InvalidParameterCombination"), answer


def test_delete(ebs, ec2):
    for snapshot in (start(ebs), upload(ebs, ec2, {0: letter("a")})):
        ec2.delete_snapshot(SnapshotId=snapshot)
        answer = fault(ec2.delete_snapshot, SnapshotId=snapshot)
        assert (answer.status, answer.code) == (400, "InvalidSnapshot.NotFound")
        assert fault(ec2.describe_snapshots, SnapshotIds=[snapshot]).code == "InvalidSnapshot.NotFound"


def test_delete_of_a_snapshot_in_error(ebs, ec2):
    snapshot = start(ebs)
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    wait_error(ec2, snapshot)
    ec2.delete_snapshot(SnapshotId=snapshot)


def test_delete_while_it_is_written(ebs, ec2):
    snapshot = start(ebs)
    put(ebs, snapshot, 0, letter("a"))
    ec2.delete_snapshot(SnapshotId=snapshot)
    not_found(lambda: put(ebs, snapshot, 1, letter("a")), of=snapshot)


def test_dry_run(ebs, ec2):
    snapshot = start(ebs)
    for call, parameters in [
        (ec2.describe_snapshots, {}),
        (ec2.delete_snapshot, {"SnapshotId": snapshot}),
        (ec2.create_tags, {"Resources": [snapshot], "Tags": [{"Key": "k", "Value": "v"}]}),
    ]:
        answer = fault(call, DryRun=True, **parameters)
        assert (answer.status, answer.code) == (412, "DryRunOperation"), answer
    assert "Tags" not in ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def tags_of(ec2, snapshot) -> dict:
    seen = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
    return {tag["Key"]: tag["Value"] for tag in seen.get("Tags", [])}


def test_tags_are_added_overwritten_and_removed(ebs, ec2):
    one, two = start(ebs), start(ebs)
    ec2.create_tags(Resources=[one, two], Tags=[{"Key": "a", "Value": "1"}, {"Key": "k b", "Value": "v&<ü>"}])
    ec2.create_tags(Resources=[one], Tags=[{"Key": "a", "Value": "2"}, {"Key": "e", "Value": ""}])
    assert tags_of(ec2, one) == {"a": "2", "k b": "v&<ü>", "e": ""}
    assert tags_of(ec2, two) == {"a": "1", "k b": "v&<ü>"}
    ec2.delete_tags(Resources=[one], Tags=[{"Key": "a", "Value": "1"}])
    assert tags_of(ec2, one)["a"] == "2"
    ec2.delete_tags(Resources=[one], Tags=[{"Key": "a", "Value": "2"}, {"Key": "absent"}])
    assert tags_of(ec2, one) == {"k b": "v&<ü>", "e": ""}
    ec2.delete_tags(Resources=[one], Tags=[{"Key": "e"}])
    assert tags_of(ec2, one) == {"k b": "v&<ü>"}
    ec2.delete_tags(Resources=[one, two])
    assert tags_of(ec2, one) == tags_of(ec2, two) == {}


def test_tags_given_at_start_are_ec2_tags(ebs, ec2):
    snapshot = start(ebs, Tags=[{"Key": "k", "Value": "v"}, {"Key": "empty", "Value": ""}])
    assert tags_of(ec2, snapshot) == {"k": "v", "empty": ""}
    described = ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [snapshot]}])["Tags"]
    expected = {"ResourceId": snapshot, "ResourceType": "snapshot"}
    assert sorted(described, key=lambda tag: tag["Key"]) == [
        {"Key": "empty", "Value": "", **expected},
        {"Key": "k", "Value": "v", **expected},
    ]


def test_describe_tags_filters(ebs, ec2):
    word = uuid.uuid4().hex
    snapshot = start(ebs, Tags=[{"Key": word, "Value": "one"}, {"Key": "other", "Value": word}])
    only = lambda **f: [
        (tag["Key"], tag["Value"])
        for tag in ec2.describe_tags(
            Filters=[{"Name": n.replace("_", "-"), "Values": [v]} for n, v in f.items()]
        )["Tags"]
    ]
    assert only(key=word) == [(word, "one")]
    assert only(value=word) == [("other", word)]
    assert only(resource_id=snapshot, key="other") == [("other", word)]
    assert only(resource_type="snapshot", key=word) == [(word, "one")]
    assert only(resource_type="volume", key=word) == []


def test_fifty_tags(ebs, ec2):
    fifty = [{"Key": f"k{i}", "Value": str(i)} for i in range(50)]
    snapshot = start(ebs, Tags=fifty)
    assert len(tags_of(ec2, snapshot)) == 50
    answer = fault(ec2.create_tags, Resources=[snapshot], Tags=[{"Key": "more", "Value": ""}])
    assert (answer.status, answer.code) == (400, "TagLimitExceeded"), answer
    ec2.create_tags(Resources=[snapshot], Tags=[{"Key": "k0", "Value": "new"}])
    assert tags_of(ec2, snapshot)["k0"] == "new"
    answer = fault(ebs.start_snapshot, VolumeSize=1, Tags=fifty + [{"Key": "more", "Value": ""}])
    assert (answer.status, answer.code) == (400, "ValidationException"), answer


def test_tag_rules_at_start(ebs, unchecked):
    longest = [{"Key": "k" * 127, "Value": "v" * 255}]
    start(ebs, Tags=longest)
    for bad in (
        [{"Key": "k" * 128, "Value": ""}],
        [{"Key": "k", "Value": "v" * 256}],
        [{"Key": "", "Value": "v"}],
        [{"Key": "aws:mine", "Value": "v"}],
        [{"Key": "twice", "Value": "1"}, {"Key": "twice", "Value": "2"}],
    ):
        answer = fault(unchecked.start_snapshot, VolumeSize=1, Tags=bad)
        assert (answer.status, answer.code) == (400, "ValidationException"), (bad, answer)


def test_tag_rules_of_ec2(ebs, ec2):
    snapshot = start(ebs)
    answer = fault(ec2.create_tags, Resources=[snapshot], Tags=[{"Key": "aws:mine", "Value": "v"}])
    assert answer.status == 400, answer
    missing = "snap-0123456789abcdef1"
    answer = fault(ec2.create_tags, Resources=[snapshot, missing], Tags=[{"Key": "k", "Value": "v"}])
    assert (answer.status, answer.code) == (400, "InvalidSnapshot.NotFound"), answer
    assert tags_of(ec2, snapshot) == {}


def test_regions(ec2):
    regions = ec2.describe_regions()["Regions"]
    assert [region["RegionName"] for region in regions] == ["us-east-1"]
    assert regions[0]["Endpoint"]


def test_caller_identity(server, ebs):
    identity = server.client("sts").get_caller_identity()
    owner = ebs.start_snapshot(VolumeSize=1)["OwnerId"]
    assert identity["Account"] == owner
    assert owner in identity["Arn"] and identity["UserId"]


def test_unknown_action(server):
    from wire import Request

    form = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    for service, body in [
        ("ec2", b"Action=RunInstances&Version=2016-11-15"),
        ("ec2", b"Version=2016-11-15"),
        ("ec2", b""),
        ("ec2", b"Action=%FF&Version=2016-11-15"),
        ("sts", b"Action=AssumeRole&Version=2011-06-15"),
    ]:
        reply = Request(server, "POST", "/", form, body).sign(service).send()
        assert reply.status == 400, reply
        assert b"<Error>" in reply.body and b"<Code>" in reply.body, reply


def test_actions_by_get(server, zoo):
    from wire import Request

    target = f"/?Action=DescribeSnapshots&SnapshotId.1={zoo['done']}&Version=2016-11-15"
    reply = Request(server, "GET", target).sign("ec2").send()
    assert reply.status == 200 and zoo["done"].encode() in reply.body, reply
    assert reply.headers["content-type"].startswith("text/xml")
    assert b'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"' in reply.body


def test_waiter_fails_on_error(ec2, zoo):
    from botocore.exceptions import WaiterError

    with pytest.raises(WaiterError):
        ec2.get_waiter("snapshot_completed").wait(
            SnapshotIds=[zoo["broken"]], WaiterConfig={"Delay": 0.05, "MaxAttempts": 3}
        )
