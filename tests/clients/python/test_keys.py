"""`drystone key` beside a running server: it takes effect at once, and survives a restart."""

import json

import pytest
from content import letter
from session import fault, not_found, start, upload


@pytest.fixture
def own(fresh):
    return fresh()


def key(server, *args: str) -> str:
    done = server.command("key", *args, "--data", str(server.data))
    assert done.returncode == 0, done.stderr
    return done.stdout


def create(server, *args: str) -> tuple[str, str]:
    made = json.loads(key(server, "create", "--json", *args))
    return made["access_key_id"], made["secret_access_key"]


def test_created_key_works_at_once(own):
    keys = create(own)
    assert start(own.client("ebs", keys=keys))
    first, second = (own.client("sts", keys=k).get_caller_identity()["Account"] for k in (keys, own.credentials))
    assert first == second


def test_secret_is_shown_once(own):
    key_id, secret = create(own)
    listed = key(own, "list")
    assert key_id in listed and own.credentials[0] in listed
    assert secret not in listed and secret not in key(own, "list", "--json")
    assert secret not in own.log_text()


def test_created_key_as_lines_to_paste(own):
    text = key(own, "create")
    values = dict(line.split(" = ") for line in text.splitlines() if " = " in line)
    keys = (values["aws_access_key_id"], values["aws_secret_access_key"])
    assert start(own.client("ebs", keys=keys))


def test_disabled_key_is_refused_at_once_and_enabled_again(own):
    keys = create(own)
    client = own.client("ebs", keys=keys)
    assert start(client)
    for _ in range(3):
        key(own, "disable", keys[0])
        found = fault(client.start_snapshot, VolumeSize=1)
        assert (found.status, found.code) == (403, "UnrecognizedClientException"), found
        key(own, "enable", keys[0])
        assert start(client)


def test_deleted_key_is_refused_at_once_and_for_good(own):
    keys = create(own)
    client = own.client("ebs", keys=keys)
    assert start(client)
    key(own, "delete", keys[0])
    assert fault(client.start_snapshot, VolumeSize=1).code == "UnrecognizedClientException"
    assert keys[0] not in key(own, "list")
    own.kill()
    own.start()
    client = own.client("ebs", keys=keys)
    assert fault(client.start_snapshot, VolumeSize=1).code == "UnrecognizedClientException"


def test_keys_survive_a_kill(own):
    working, disabled = create(own), create(own)
    key(own, "disable", disabled[0])
    own.kill()
    own.start()
    assert start(own.client("ebs", keys=working))
    assert fault(own.client("ebs", keys=disabled).start_snapshot, VolumeSize=1).status == 403


def test_without_a_running_server(own):
    own.stop()
    keys = create(own)
    own.start()
    assert start(own.client("ebs", keys=keys))


def test_unknown_key_is_an_error(own):
    done = own.command("key", "disable", "AKIAUNKNOWN000000000", "--data", str(own.data))
    assert done.returncode != 0 and "AKIAUNKNOWN000000000" in done.stderr


def test_accounts_do_not_see_each_other(own):
    ebs, ec2 = own.client("ebs"), own.client("ec2")
    snapshot = upload(ebs, ec2, {0: letter("a")})
    token = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"][0]["BlockToken"]
    keys = create(own, "--new-account")
    theirs, their_ec2 = own.client("ebs", keys=keys), own.client("ec2", keys=keys)
    assert their_ec2.describe_snapshots()["Snapshots"] == []
    not_found(theirs.list_snapshot_blocks, of=snapshot, SnapshotId=snapshot)
    call = {"SnapshotId": snapshot, "BlockIndex": 0, "BlockToken": token}
    not_found(theirs.get_snapshot_block, of=snapshot, **call)
    not_found(theirs.start_snapshot, of=snapshot, VolumeSize=1, ParentSnapshotId=snapshot)
    not_found(theirs.complete_snapshot, of=snapshot, SnapshotId=snapshot, ChangedBlocksCount=1)
    for call, parameters in [
        (their_ec2.delete_snapshot, {"SnapshotId": snapshot}),
        (their_ec2.describe_snapshots, {"SnapshotIds": [snapshot]}),
        (their_ec2.create_tags, {"Resources": [snapshot], "Tags": [{"Key": "k", "Value": "v"}]}),
    ]:
        assert fault(call, **parameters).code == "InvalidSnapshot.NotFound"
    # The same client token in two accounts makes two snapshots.
    assert start(ebs, ClientToken="same") != start(theirs, ClientToken="same")
    assert ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
