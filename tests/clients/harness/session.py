"""Write and read sessions over boto3, as a careful client would run them."""

import time
from concurrent.futures import ThreadPoolExecutor

from botocore.exceptions import ClientError
from content import BLOCK, aggregate, checksum
from server import ANSWER_SECONDS

WAIT = {"Delay": 0.05, "MaxAttempts": 1200}


class Fault:
    """An error answer: code, status, message, reason."""

    def __init__(self, error: ClientError):
        self.code = error.response["Error"]["Code"]
        self.message = error.response["Error"].get("Message", "")
        self.status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        self.headers = error.response["ResponseMetadata"]["HTTPHeaders"]
        self.reason = error.response.get("Reason")

    def __repr__(self):
        return f"{self.status} {self.code} {self.reason} {self.message!r}"


def fault(call, /, **parameters) -> Fault:
    """Calls and expects an error."""
    try:
        answer = call(**parameters)
    except ClientError as error:
        return Fault(error)
    raise AssertionError(f"expected an error, got {answer}")


def invalid(call, reason: str, message: str | None = None, /, **parameters) -> Fault:
    """Expects a ValidationException of the service layer."""
    found = fault(call, **parameters)
    assert (found.status, found.code, found.reason) == (400, "ValidationException", reason), found
    if message is not None:
        assert found.message == message, found
    return found


def constraint(call, member: str, rule: str, /, **parameters) -> Fault:
    """Expects a ValidationException of the constraint layer, which has no Reason."""
    found = fault(call, **parameters)
    assert (found.status, found.code, found.reason) == (400, "ValidationException", None), found
    assert " validation error" in found.message and " detected: " in found.message, found
    assert f"at '{member}' failed to satisfy constraint: {rule}" in found.message, found
    return found


def not_found(call, /, *, of: str | None = None, **parameters) -> Fault:
    """Expects SNAPSHOT_NOT_FOUND."""
    found = fault(call, **parameters)
    expected = (404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND")
    assert (found.status, found.code, found.reason) == expected, found
    if of is not None:
        assert found.message == f"The snapshot '{of}' does not exist.", found
    return found


def start(ebs, gib: int = 1, **more) -> str:
    return ebs.start_snapshot(VolumeSize=gib, **more)["SnapshotId"]


def put(ebs, snapshot: str, index: int, data, **more):
    parameters = {
        "SnapshotId": snapshot,
        "BlockIndex": index,
        "BlockData": data,
        "DataLength": BLOCK,
        "Checksum": checksum(data) if isinstance(data, bytes) else None,
        "ChecksumAlgorithm": "SHA256",
    }
    return ebs.put_snapshot_block(**{**parameters, **more})


def put_all(ebs, snapshot: str, blocks: dict, threads: int = 8) -> None:
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(put, ebs, snapshot, i, data) for i, data in blocks.items()]:
            done.result()


def complete(ebs, snapshot: str, blocks: dict) -> str:
    """Completes with count and aggregate checksum; answers the status."""
    return ebs.complete_snapshot(
        SnapshotId=snapshot,
        ChangedBlocksCount=len(blocks),
        Checksum=aggregate(blocks),
        ChecksumAlgorithm="SHA256",
        ChecksumAggregationMethod="LINEAR",
    )["Status"]


def wait(ec2, snapshot: str) -> dict:
    """Waits as EC2 clients do, and answers what EC2 says of the snapshot."""
    ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot], WaiterConfig=WAIT)
    return ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]


def wait_error(ec2, snapshot: str) -> str:
    """Waits for state error, and answers the status message."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        found = ec2.describe_snapshots(SnapshotIds=[snapshot])["Snapshots"][0]
        if found["State"] != "pending":
            assert found["State"] == "error", found
            return found["StateMessage"]
        time.sleep(0.05)
    raise AssertionError(f"{snapshot} stayed pending")


def upload(ebs, ec2, blocks: dict, gib: int = 1, **more) -> str:
    """A whole write session; answers the id of a completed snapshot."""
    snapshot = start(ebs, gib, **more)
    put_all(ebs, snapshot, blocks)
    assert complete(ebs, snapshot, blocks) in ("pending", "completed")
    wait(ec2, snapshot)
    return snapshot


def pages(call, /, **parameters) -> list:
    """All pages of a listing, following NextToken by hand as Python clients must."""
    found = []
    while True:
        page = call(**parameters)
        found.append(page)
        token = page.get("NextToken")
        if token is None:
            return found
        assert token, "an empty NextToken never ends a loop"
        parameters["NextToken"] = token


def list_blocks(ebs, snapshot: str, **more) -> dict:
    """{index: token}, with the order checked."""
    blocks = [
        block
        for page in pages(ebs.list_snapshot_blocks, SnapshotId=snapshot, **more)
        for block in page["Blocks"]
    ]
    indexes = [block["BlockIndex"] for block in blocks]
    assert indexes == sorted(set(indexes))
    return {block["BlockIndex"]: block["BlockToken"] for block in blocks}


def list_changed(ebs, first: str, second: str, **more) -> dict:
    """{index: (first token, second token)}."""
    ids = {"FirstSnapshotId": first, "SecondSnapshotId": second}
    changed = [
        block
        for page in pages(ebs.list_changed_blocks, **ids, **more)
        for block in page["ChangedBlocks"]
    ]
    indexes = [block["BlockIndex"] for block in changed]
    assert indexes == sorted(set(indexes))
    side = lambda block, name: block.get(name)
    return {
        block["BlockIndex"]: (side(block, "FirstBlockToken"), side(block, "SecondBlockToken"))
        for block in changed
    }


def get(ebs, snapshot: str, index: int, token: str) -> bytes:
    """Reads one block and checks length and checksum."""
    answer = ebs.get_snapshot_block(SnapshotId=snapshot, BlockIndex=index, BlockToken=token)
    data = answer["BlockData"].read()
    assert len(data) == answer["DataLength"] == BLOCK
    assert answer["ChecksumAlgorithm"] == "SHA256"
    assert answer["Checksum"] == checksum(data)
    return data


def download(ebs, snapshot: str, threads: int = 8) -> dict:
    """{index: data} of a completed snapshot."""
    tokens = list_blocks(ebs, snapshot)
    with ThreadPoolExecutor(threads) as pool:
        found = {i: pool.submit(get, ebs, snapshot, i, token) for i, token in tokens.items()}
        return {index: data.result() for index, data in found.items()}
