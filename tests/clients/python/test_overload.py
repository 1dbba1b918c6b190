"""More clients than the server has places and memory, and clients that stand still (docs/wire.md, "Under load")."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from content import BLOCK, unique
from server import ANSWER_SECONDS
from session import complete, fault, get, list_blocks, put, start, upload, wait
from wire import put_request

# What boto3 does when nobody configures it.
RETRIES = {"mode": "standard"}


@pytest.fixture
def narrow(fresh, tmp_path):
    """Starts a server with few places, and the fewest buffers."""

    def make(connections: int):
        path = tmp_path / "drystone.toml"
        path.write_text(f"[http]\nconnections_max = {connections}\n[store]\nbuffers = 8\n")
        return fresh("--config", str(path))

    return make


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=ANSWER_SECONDS)


def half_put(server, snapshot: str) -> socket.socket:
    """A client that stands still in the middle of its block."""
    data = unique("half")
    request = put_request(server, snapshot, 0, data)
    request.headers["Content-Length"] = str(BLOCK)
    stream = connect(server)
    stream.sendall(request.sign().head() + data[: BLOCK // 2])
    return stream


def half_head(server) -> socket.socket:
    stream = connect(server)
    stream.sendall(b"PUT /snapshots HTTP/1.1\r\nHost: ")
    return stream


def test_boto3_works_through_it(narrow):
    """48 threads on 24 places and 7 buffers, with 14 clients that stand still: every call succeeds."""
    server = narrow(24)
    old = {index: unique(("old", index)) for index in range(16)}
    snapshot = upload(server.client("ebs"), server.client("ec2"), old)
    ebs, ec2 = server.client("ebs", retries=RETRIES), server.client("ec2", retries=RETRIES)
    tokens = list_blocks(ebs, snapshot)
    new = {index: unique(("new", index)) for index in range(96)}
    pending = start(ebs)

    def read(index):
        assert get(ebs, snapshot, index % 16, tokens[index % 16]) == old[index % 16]

    with ExitStack() as standing:
        for _ in range(4):
            standing.enter_context(half_put(server, pending))
        for _ in range(5):
            standing.enter_context(half_head(server))
            standing.enter_context(connect(server))
        with ThreadPoolExecutor(48) as pool:
            work = [pool.submit(put, ebs, pending, i, data) for i, data in new.items()]
            work += [pool.submit(read, index) for index in range(96)]
            for done in work:
                done.result()
    complete(ebs, pending, new)
    wait(ec2, pending)
    assert sorted(list_blocks(ebs, pending)) == sorted(new)


def test_throttling_is_told_as_sdks_know_it_and_they_come_again(narrow):
    """Every place is taken by clients in the middle of a request, which are not closed for others."""
    server = narrow(4)
    snapshot = start(server.client("ebs"))
    standing = [half_put(server, snapshot) for _ in range(4)]
    while len(standing) > sum(counted(server, 'drystone_admission_in_use{of="blocks"}')):
        pass

    found = fault(server.client("ebs").list_snapshot_blocks, SnapshotId=snapshot)
    assert (found.status, found.code, found.message) == (400, "ThrottlingException", "Rate exceeded")
    assert int(found.headers["x-amz-retry-after"]) > 0
    found = fault(server.client("ec2").describe_snapshots)
    assert (found.status, found.code) == (503, "RequestLimitExceeded")
    found = fault(server.client("sts").get_caller_identity)
    assert (found.status, found.code) == (400, "Throttling")
    assert server.get("/healthz").status == 200

    first = threading.Event()

    def leave():
        first.wait(ANSWER_SECONDS)
        for stream in standing:
            stream.close()

    ebs = server.client("ebs", retries=RETRIES)
    seen = []

    def heard(response, **_):
        if response is not None:
            seen.append(response[0].status_code)
            first.set()

    ebs.meta.events.register("needs-retry.ebs.PutSnapshotBlock", heard)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(leave)
        put(ebs, snapshot, 7, unique("patience"))
    assert seen[0] == 400 and seen[-1] == 201, seen


def counted(server, metric: str) -> list[int]:
    lines = server.get("/metrics").text.splitlines()
    return [int(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric)]
