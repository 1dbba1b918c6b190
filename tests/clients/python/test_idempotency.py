"""Client tokens of StartSnapshot (SPEC 3.5)."""

import uuid

import pytest
from content import letter
from session import complete, constraint, fault, put, start, upload, wait


def token() -> str:
    return str(uuid.uuid4())


def test_replay_answers_the_first_response(ebs, ec2):
    request = {
        "VolumeSize": 2,
        "Description": "once",
        "Tags": [{"Key": "a", "Value": "b"}],
        "Timeout": 30,
        "ClientToken": token(),
    }
    first = ebs.start_snapshot(**request)
    again = ebs.start_snapshot(**request)
    for answer in (first, again):
        assert answer.pop("ResponseMetadata")["HTTPStatusCode"] == 201
    assert first == again
    seen = ec2.describe_snapshots(Filters=[{"Name": "description", "Values": ["once"]}])
    assert len(seen["Snapshots"]) == 1


def test_replay_after_completion_still_says_pending(ebs, ec2):
    request = {"VolumeSize": 1, "ClientToken": token()}
    snapshot = ebs.start_snapshot(**request)["SnapshotId"]
    put(ebs, snapshot, 0, letter("a"))
    complete(ebs, snapshot, {0: letter("a")})
    wait(ec2, snapshot)
    again = ebs.start_snapshot(**request)
    assert (again["SnapshotId"], again["Status"]) == (snapshot, "pending")


@pytest.mark.parametrize(
    "change",
    [
        {"VolumeSize": 2},
        {"Description": "other"},
        {"Tags": [{"Key": "a", "Value": "b"}]},
        {"Timeout": 61},
    ],
)
def test_other_parameters_conflict(ebs, change):
    request = {"VolumeSize": 1, "ClientToken": token()}
    ebs.start_snapshot(**request)
    found = fault(ebs.start_snapshot, **{**request, **change})
    assert (found.status, found.code, found.reason) == (409, "ConflictException", None)
    assert found.message == "Current request does not match request stored with this token."


def test_other_parent_conflicts(ebs, ec2):
    parent = upload(ebs, ec2, {0: letter("a")})
    request = {"VolumeSize": 1, "ClientToken": token()}
    ebs.start_snapshot(ParentSnapshotId=parent, **request)
    assert fault(ebs.start_snapshot, **request).code == "ConflictException"


def test_tokens_are_case_sensitive(ebs):
    lower = "case-" + uuid.uuid4().hex
    assert start(ebs, ClientToken=lower) != start(ebs, ClientToken=lower.upper())


def test_other_token_makes_another_snapshot(ebs):
    assert start(ebs, ClientToken=token()) != start(ebs, ClientToken=token())


def test_length(ebs, unchecked):
    longest = (uuid.uuid4().hex * 8)[:255]
    assert start(ebs, ClientToken=longest) == start(ebs, ClientToken=longest)
    rule = "Member must have length less than or equal to 255"
    constraint(unchecked.start_snapshot, "clientToken", rule, VolumeSize=1, ClientToken="x" * 256)


@pytest.mark.parametrize("bad", ["", "two words"])
def test_letters(unchecked, bad):
    rule = "Member must satisfy regular expression pattern: ^[\\S]+$"
    constraint(unchecked.start_snapshot, "clientToken", rule, VolumeSize=1, ClientToken=bad)


def test_replay_after_a_restart(fresh):
    server = fresh()
    request = {"VolumeSize": 1, "ClientToken": token()}
    snapshot = server.client("ebs").start_snapshot(**request)["SnapshotId"]
    server.kill()
    server.start()
    assert server.client("ebs").start_snapshot(**request)["SnapshotId"] == snapshot


def test_many_at_once_make_one(ebs):
    from concurrent.futures import ThreadPoolExecutor

    request = {"VolumeSize": 1, "ClientToken": token()}
    with ThreadPoolExecutor(16) as pool:
        made = [pool.submit(ebs.start_snapshot, **request) for _ in range(32)]
        assert len({answer.result()["SnapshotId"] for answer in made}) == 1
