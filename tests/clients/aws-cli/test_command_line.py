"""The AWS command line against the server: the story as an operator would type it."""

import base64
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import image
import pytest
from content import BLOCK, aggregate, checksum
from server import ANSWER_SECONDS

AWS = Path(sys.executable).parent / "aws"


@pytest.fixture(scope="module")
def aws(server, folder):
    """Runs `aws ARGS` as a user of the credentials file that the server wrote."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_SHARED_CREDENTIALS_FILE": str(server.data / "credentials"),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_ENDPOINT_URL": server.endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_DEFAULT_OUTPUT": "json",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def run(*words, fails: bool = False):
        done = subprocess.run(
            [str(AWS), *map(str, words)],
            capture_output=True,
            text=True,
            timeout=ANSWER_SECONDS,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
        if fails:
            assert done.returncode != 0, done.stdout
            return done.stderr
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None

    return run


def write(aws, folder, blocks: dict, *more) -> str:
    """A write session, block by block."""
    snapshot = aws("ebs", "start-snapshot", "--volume-size", 1, *more)["SnapshotId"]
    for index, data in blocks.items():
        path = folder / f"block-{index}"
        path.write_bytes(data)
        answer = aws(
            "ebs", "put-snapshot-block", "--snapshot-id", snapshot, "--block-index", index,
            "--block-data", path, "--data-length", BLOCK,
            "--checksum", checksum(data), "--checksum-algorithm", "SHA256",
        )
        assert answer["Checksum"] == checksum(data)
    answer = aws(
        "ebs", "complete-snapshot", "--snapshot-id", snapshot, "--changed-blocks-count", len(blocks),
        "--checksum", aggregate(blocks), "--checksum-algorithm", "SHA256",
        "--checksum-aggregation-method", "LINEAR",
    )
    assert answer["Status"] in ("pending", "completed")
    # Its waiter asks every 15 seconds, and at once the first time: a repeat shows the end sooner.
    while aws("ebs", "complete-snapshot", "--snapshot-id", snapshot, "--changed-blocks-count", len(blocks))["Status"] == "pending":
        pass
    aws("ec2", "wait", "snapshot-completed", "--snapshot-ids", snapshot)
    return snapshot


def read(aws, folder, snapshot: str) -> dict:
    """A read session into files."""
    found = {}
    listed = aws("ebs", "list-snapshot-blocks", "--snapshot-id", snapshot)
    assert (listed["VolumeSize"], listed["BlockSize"]) == (1, BLOCK)
    for block in listed["Blocks"]:
        path = folder / "read"
        answer = aws(
            "ebs", "get-snapshot-block", "--snapshot-id", snapshot,
            "--block-index", block["BlockIndex"], "--block-token", block["BlockToken"], path,
        )
        data = path.read_bytes()
        assert answer["DataLength"] == len(data) == BLOCK and answer["Checksum"] == checksum(data)
        found[block["BlockIndex"]] = data
    return found


@pytest.mark.timeout(400)
def test_the_story(aws, tmp_path):
    original = image.build(tmp_path)
    # A process for each block: a dozen blocks of the image tell as much as all of them.
    before = dict(list(image.blocks(original).items())[:12])
    changed = image.blocks(image.change(original, tmp_path))
    after = {index: changed.get(index, bytes(BLOCK)) for index in before}
    index = next(i for i in changed if i not in before)
    after[index] = changed[index]
    difference = image.difference(before, after)

    snapshot = write(aws, tmp_path, before, "--description", "the whole disk")
    assert read(aws, tmp_path, snapshot) == before
    child = write(aws, tmp_path, difference, "--parent-snapshot-id", snapshot)
    assert read(aws, tmp_path, child) == {**before, **difference}

    listed = aws("ebs", "list-changed-blocks", "--first-snapshot-id", snapshot, "--second-snapshot-id", child)
    assert [block["BlockIndex"] for block in listed["ChangedBlocks"]] == sorted(difference)
    new = [block for block in listed["ChangedBlocks"] if "FirstBlockToken" not in block]
    assert [block["BlockIndex"] for block in new] == [index]

    seen = aws("ec2", "describe-snapshots", "--snapshot-ids", snapshot)["Snapshots"][0]
    assert (seen["State"], seen["Progress"]) == ("completed", "100%")
    assert (seen["VolumeSize"], seen["Description"]) == (1, "the whole disk")

    aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)
    assert "InvalidSnapshot.NotFound" in aws("ec2", "describe-snapshots", "--snapshot-ids", snapshot, fails=True)
    assert read(aws, tmp_path, child) == {**before, **difference}


def test_tags_and_filters(aws):
    snapshot = aws("ebs", "start-snapshot", "--volume-size", 2, "--tags", "Key=Name,Value=typed")["SnapshotId"]
    aws("ec2", "create-tags", "--resources", snapshot, "--tags", "Key=Stage,Value=test one")
    found = aws("ec2", "describe-snapshots", "--filters", "Name=tag:Stage,Values=test*", "Name=volume-size,Values=2")
    assert [seen["SnapshotId"] for seen in found["Snapshots"]] == [snapshot]
    tags = aws("ec2", "describe-tags", "--filters", f"Name=resource-id,Values={snapshot}")["Tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"Name": "typed", "Stage": "test one"}
    aws("ec2", "delete-tags", "--resources", snapshot, "--tags", "Key=Stage")
    tags = aws("ec2", "describe-tags", "--filters", f"Name=resource-id,Values={snapshot}")["Tags"]
    assert [tag["Key"] for tag in tags] == ["Name"]
    aws("ec2", "delete-snapshot", "--snapshot-id", snapshot)


def test_pages(aws):
    made = {aws("ebs", "start-snapshot", "--volume-size", 1, "--tags", "Key=paged,Value=yes")["SnapshotId"] for _ in range(7)}
    page = ("ec2", "describe-snapshots", "--filters", "Name=tag:paged,Values=yes", "--page-size", 5)
    assert {seen["SnapshotId"] for seen in aws(*page)["Snapshots"]} == made
    first = aws(*page, "--max-items", 3)
    rest = aws(*page, "--starting-token", first["NextToken"])
    ids = [seen["SnapshotId"] for part in (first, rest) for seen in part["Snapshots"]]
    assert sorted(ids) == sorted(made)


def test_identity_and_regions(aws):
    identity = aws("sts", "get-caller-identity")
    assert len(identity["Account"]) == 12
    regions = aws("ec2", "describe-regions")["Regions"]
    assert [region["RegionName"] for region in regions] == ["us-east-1"]


def test_errors_are_readable(aws, tmp_path):
    missing = "snap-0123456789abcdef1"
    said = aws("ebs", "list-snapshot-blocks", "--snapshot-id", missing, fails=True)
    assert "ResourceNotFoundException" in said and f"The snapshot '{missing}' does not exist." in said
    snapshot = aws("ebs", "start-snapshot", "--volume-size", 1)["SnapshotId"]
    path = tmp_path / "block"
    path.write_bytes(b"x" * BLOCK)
    put = ("ebs", "put-snapshot-block", "--snapshot-id", snapshot, "--block-data", path, "--data-length", BLOCK,
           "--checksum-algorithm", "SHA256")
    right = base64.b64encode(hashlib.sha256(b"x" * BLOCK).digest()).decode()
    said = aws(*put, "--block-index", 2048, "--checksum", right, fails=True)
    assert "Block index 2048 is beyond the volume size extent" in said
    said = aws(*put, "--block-index", 0, "--checksum", checksum(b"y" * BLOCK), fails=True)
    assert "InvalidSignatureException" in said and "does not match the computed checksum" in said
