"""HTTP itself: bodies cut short, bodies too long, headers too large, and what old clients send."""

import json
import re
import socket
import time

import pytest
from content import BLOCK, COUNTING, letter
from server import ANSWER_SECONDS
from session import complete, download, list_blocks, put, start, upload, wait
from wire import Request, connect, put_request, read_reply

A = letter("a")


@pytest.fixture(scope="module")
def snapshot(ebs):
    return start(ebs)


def is_json_error(reply):
    """Every answer that is no success carries JSON with both spellings and a bare type."""
    body = json.loads(reply.body)
    assert body["message"] and body["__type"] and ":" not in body["__type"], reply
    assert body.get("Message", body["message"]) == body["message"], reply
    assert reply.headers["content-type"].startswith("application/json"), reply
    return body


def test_health(server):
    answer = server.get("/healthz")
    assert answer.status == 200


def test_metrics_on_loopback(server, ebs, snapshot):
    put(ebs, snapshot, 0, A)
    answer = server.get("/metrics")
    assert answer.status == 200
    assert re.search(r"^# TYPE drystone_\w+ counter$", answer.text, re.M), answer.text[:500]
    assert "put_snapshot_block" in answer.text.lower() or "PutSnapshotBlock" in answer.text


def test_request_ids_differ_and_dates_are_true(server, ebs):
    answers = [ebs.start_snapshot(VolumeSize=1)["ResponseMetadata"]["HTTPHeaders"] for _ in range(3)]
    ids = {headers["x-amzn-requestid"] for headers in answers}
    assert len(ids) == 3
    for request_id in ids:
        assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id)
    import email.utils

    date = email.utils.parsedate_to_datetime(answers[0]["date"])
    assert abs(date.timestamp() - time.time()) < 60


@pytest.mark.parametrize("target", ["/nowhere", "/snapshots/x/y/z", "/snapshots/", "//", "/%00", "/snapshots/%zz/blocks"])
def test_unknown_routes(server, target):
    for method in ("GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"):
        request = Request(server, method, target)
        for reply in (request.send(), request.sign().send()):
            assert 400 <= reply.status < 500, reply
            is_json_error(reply)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b'{"VolumeSize":"one"}', b'{"VolumeSize":1.5}', b'{"VolumeSize":1e999}', b'{"VolumeSize":{}}', b'{"VolumeSize":1,"Tags":{}}', b"{" * 10000, b'{"VolumeSize":1,"Tags":[1]}'],
)
def test_start_with_bad_json(server, body):
    headers = {"Content-Type": "application/json"}
    reply = Request(server, "POST", "/snapshots", headers, body).sign().send()
    assert reply.status == 400, reply
    is_json_error(reply)


def test_start_body_too_large(server):
    body = b'{"VolumeSize":1,"Description":"' + b"x" * 5_000_000 + b'"}'
    reply = Request(server, "POST", "/snapshots", {"Content-Type": "application/json"}, body).sign().send()
    assert reply.status in (400, 413), reply
    is_json_error(reply)


def test_start_accepts_any_content_type(server):
    for kind in ("application/json", "application/x-amz-json-1.1", "text/plain"):
        reply = Request(server, "POST", "/snapshots", {"Content-Type": kind}, b'{"VolumeSize":1}').sign().send()
        assert reply.status == 201, reply
        body = reply.json
        for member in ("Description", "KmsKeyArn", "ParentSnapshotId", "SseType", "Tags"):
            assert member in body and body[member] is None, body
        assert isinstance(body["StartTime"], (int, float))


def test_unknown_members_are_ignored(server):
    body = b'{"VolumeSize":1,"Colour":"red","Description":null,"Tags":null}'
    assert Request(server, "POST", "/snapshots", {}, body).sign().send().status == 201


def test_body_cut_short(server, snapshot):
    """The client promises 512 KiB and closes its side half way."""
    request = put_request(server, snapshot, 1, A, **{"Content-Length": str(BLOCK)}).sign()
    with connect(server) as connection:
        connection.sendall(request.head() + A[: BLOCK // 2])
        connection.shutdown(socket.SHUT_WR)
        try:
            reply = read_reply(connection)
        except OSError:
            return  # closed without an answer is an answer to a client that left
        except Exception as error:
            assert "BadStatusLine" in type(error).__name__ or "RemoteDisconnected" in type(error).__name__
            return
        assert reply.status == 400, reply


def test_body_longer_than_promised_is_another_request(server, snapshot):
    request = put_request(server, snapshot, 1, A, **{"Content-Length": str(BLOCK)}).sign()
    with connect(server) as connection:
        connection.sendall(request.head() + A + b"rubbish\r\n\r\n")
        assert read_reply(connection).status == 201
        answer = connection.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer


def test_long_body_announced_is_refused_with_an_answer(server, snapshot):
    request = put_request(server, snapshot, 1, A * 4).sign()
    reply = request.send()
    assert (reply.status, reply.code) == (400, "ValidationException"), reply
    assert is_json_error(reply)["message"] == "Failed to read block data"


def test_huge_content_length_is_refused_at_once(server, snapshot):
    request = put_request(server, snapshot, 1, A, **{"Content-Length": str(1 << 60)}).sign()
    with connect(server) as connection:
        connection.sendall(request.head() + A)
        reply = read_reply(connection)
        assert reply.status in (400, 413), reply


@pytest.mark.parametrize("value", ["-1", "x", "524288, 524288x", "99999999999999999999999"])
def test_bad_content_length(server, snapshot, value):
    request = put_request(server, snapshot, 1, A, **{"Content-Length": value}).sign()
    with connect(server) as connection:
        connection.sendall(request.head())
        assert connection.recv(4096).startswith(b"HTTP/1.1 4"), value


def test_length_and_chunks_together_are_no_smuggling(server, snapshot):
    request = put_request(server, snapshot, 1, A)
    request.headers["Content-Length"] = "5"
    request.headers["Transfer-Encoding"] = "chunked"
    request.sign()
    with connect(server) as connection:
        connection.sendall(request.head() + b"0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        status = read_reply(connection).status
        assert 400 <= status < 500


def test_bad_chunk_size(server, snapshot):
    request = put_request(server, snapshot, 1, A)
    request.headers["Transfer-Encoding"] = "chunked"
    request.sign()
    with connect(server) as connection:
        connection.sendall(request.head() + b"zz\r\n")
        answer = connection.recv(4096)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer


@pytest.mark.parametrize("size", [70_000, 2_000_000])
def test_oversized_headers(server, snapshot, size):
    request = put_request(server, snapshot, 1, A)
    request.headers["x-large"] = "x" * size
    with connect(server) as connection:
        try:
            connection.sendall(request.head())
        except OSError:
            pass
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            return
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert server.get("/healthz").status == 200


def test_many_headers(server, snapshot):
    request = Request(server, "GET", f"/snapshots/{snapshot}/blocks")
    request.headers |= {f"x-many-{i}": "x" for i in range(2000)}
    with connect(server) as connection:
        connection.sendall(request.head())
        assert connection.recv(4096)[:10] in (b"HTTP/1.1 4", b"")


def test_rubbish_instead_of_http(server):
    for rubbish in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\r\n\r\n\r\n", b"GET\r\n\r\n", b"\x00" * 100):
        with connect(server) as connection:
            connection.sendall(rubbish)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(4096)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4"), answer
    assert server.get("/healthz").status == 200


def test_expect_100_continue(server, ebs, ec2):
    snapshot = start(ebs)
    headers = {"Expect": "100-continue", "Content-Length": str(BLOCK)}
    request = put_request(server, snapshot, 4, A, **headers).sign()
    with connect(server) as connection:
        connection.sendall(request.head())
        assert connection.recv(4096).startswith(b"HTTP/1.1 100 ")
        connection.sendall(A)
        assert read_reply(connection).status == 201
    complete(ebs, snapshot, {4: A})
    wait(ec2, snapshot)


def test_expect_100_continue_refused_before_the_body(server):
    headers = {"Expect": "100-continue", "Content-Length": str(BLOCK)}
    request = put_request(server, "snap-0123456789abcdef1", 4, A, **headers).sign()
    with connect(server) as connection:
        connection.sendall(request.head())
        reply = read_reply(connection)
        assert (reply.status, reply.code) == (404, "ResourceNotFoundException"), reply


def test_early_refusal_reaches_a_client_that_is_still_sending(server):
    """The error, and not a broken pipe."""
    for _ in range(10):
        reply = put_request(server, "snap-0123456789abcdef1", 4, A).sign().send()
        assert (reply.status, reply.code) == (404, "ResourceNotFoundException"), reply


def test_keep_alive_over_success_and_refusal(server, ebs, snapshot):
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=ANSWER_SECONDS)
    connection.connect()
    ours = connection.sock.getsockname()
    for index in (5, 6, 7):
        request = put_request(server, snapshot, index, A).sign()
        connection.request("PUT", request.target, A, request.headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 201
        assert connection.sock.getsockname() == ours
    connection.close()


def test_complete_without_any_length(server, ebs, ec2):
    """The Rust SDK sends neither Content-Length nor Transfer-Encoding."""
    snapshot = start(ebs)
    put(ebs, snapshot, 0, A)
    headers = {"x-amz-ChangedBlocksCount": "1"}
    request = Request(server, "POST", f"/snapshots/completion/{snapshot}", headers).sign()
    with connect(server) as connection:
        connection.sendall(request.head())
        reply = read_reply(connection)
        assert (reply.status, reply.json) == (202, {"Status": "pending"}), reply
    wait(ec2, snapshot)


def test_integers_in_e_notation(server, ebs, ec2):
    """R writes 100000 as 1e+05 in paths, queries, headers and JSON (SPEC C.2)."""
    body = b'{"VolumeSize":1e+02}'
    reply = Request(server, "POST", "/snapshots", {}, body).sign().send()
    assert (reply.status, reply.json["VolumeSize"]) == (201, 100), reply
    snapshot = reply.json["SnapshotId"]
    assert put_request(server, snapshot, "1e%2B05", A).sign().send().status == 201
    put(ebs, snapshot, 7, COUNTING)
    headers = {"x-amz-ChangedBlocksCount": "2e+00"}
    reply = Request(server, "POST", f"/snapshots/completion/{snapshot}", headers).sign().send()
    assert reply.status == 202, reply
    wait(ec2, snapshot)
    target = f"/snapshots/{snapshot}/blocks?maxResults=1e%2B02&startingBlockIndex=1e%2B05"
    listed = Request(server, "GET", target).sign().send().json
    assert [block["BlockIndex"] for block in listed["Blocks"]] == [100000]
    token = listed["Blocks"][0]["BlockToken"]
    target = f"/snapshots/{snapshot}/blocks/1e%2B05?blockToken={token}"
    assert Request(server, "GET", target).sign().send().body == A
    assert download(ebs, snapshot) == {7: COUNTING, 100000: A}


@pytest.mark.parametrize("index", ["1e-05", "1.5e%2B00", "1e%2B99", "0x10", "1e5x", "", "%20", "abc"])
def test_other_notations_are_refused(server, snapshot, index):
    reply = put_request(server, snapshot, index, A).sign().send()
    assert 400 <= reply.status < 500, reply
    is_json_error(reply)


def test_encoded_ids_are_decoded_once(server, ebs, ec2):
    snapshot = upload(ebs, ec2, {0: A})
    encoded = snapshot.replace("-", "%2D")
    reply = Request(server, "GET", f"/snapshots/{encoded}/blocks").sign().send()
    assert reply.status == 200, reply
    reply = Request(server, "GET", f"/snapshots/{snapshot.replace('-', '%252D')}/blocks").sign().send()
    assert reply.status == 400, reply
    assert list_blocks(ebs, snapshot)


def test_slow_body_is_cut(server, snapshot):
    """A client that stalls in the middle of a block does not hold a buffer for ever."""
    request = put_request(server, snapshot, 1, A, **{"Content-Length": str(BLOCK)}).sign()
    with connect(server) as connection:
        connection.sendall(request.head() + A[:1000])
        answer = connection.recv(65536)
        assert answer == b"" or b"Failed to read block data" in answer, answer
