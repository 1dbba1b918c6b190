"""Signatures (SPEC 4): every way to be wrong, each answered as AWS answers it, and leaving no trace."""

import hashlib

import pytest
from content import COUNTING, letter
from session import download, fault, list_blocks, put, start, upload, wait
from wire import UNSIGNED, Request, amz_date, put_request

A = letter("a")
MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
    "Access Key and signing method. Consult the service documentation for details."
)


@pytest.fixture(scope="module")
def snapshot(ebs):
    return start(ebs)


@pytest.fixture(scope="module")
def readable(ebs, ec2):
    return upload(ebs, ec2, {0: A})


def refused(reply, code, *parts):
    """A 403 in the form of the framework: JSON in both spellings, and the request id."""
    assert (reply.status, reply.code) == (403, code), reply
    assert reply.json["__type"] == code and "x-amzn-requestid" in reply.headers
    assert reply.headers["content-type"].startswith("application/json") and "date" in reply.headers
    for part in parts:
        assert part in reply.json["message"], reply


def listing(server, readable) -> Request:
    return Request(server, "GET", f"/snapshots/{readable}/blocks?maxResults=100")


def test_the_signer_is_right(server, readable):
    assert listing(server, readable).sign().send().status == 200


def test_missing(server, readable):
    reply = listing(server, readable).send()
    refused(reply, "MissingAuthenticationTokenException", "Missing Authentication Token")


def test_wrong_secret(server, readable):
    key_id, secret = server.credentials
    wrong = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    reply = listing(server, readable).sign(keys=(key_id, wrong)).send()
    refused(reply, "InvalidSignatureException", MISMATCH)
    assert secret not in server.log_text() and wrong not in server.log_text()


def test_unknown_key(server, readable):
    reply = listing(server, readable).sign(keys=("AKIAUNKNOWN000000000", "x" * 40)).send()
    message = "The security token included in the request is invalid."
    refused(reply, "UnrecognizedClientException", message)


def test_session_token_that_nobody_gave(server, readable):
    request = listing(server, readable)
    request.headers["X-Amz-Security-Token"] = "forged"
    reply = request.sign().send()
    assert reply.status == 403, reply
    assert reply.code in ("UnrecognizedClientException", "ExpiredTokenException"), reply


@pytest.mark.parametrize("part", ["target", "method", "header", "signature", "signed headers"])
def test_anything_changed_after_signing(server, readable, part):
    request = listing(server, readable)
    request.headers["x-amz-extra"] = "1"
    request.sign()
    if part == "target":
        request.target = request.target.replace("100", "101")
    elif part == "method":
        request.method = "POST"
        request.target = f"/snapshots/completion/{readable}"
    elif part == "header":
        request.headers["x-amz-extra"] = "2"
    elif part == "signature":
        last = request.headers["Authorization"][-1]
        request.headers["Authorization"] = request.headers["Authorization"][:-1] + ("0" if last != "0" else "1")
    else:
        changed = request.headers["Authorization"].replace(";x-amz-extra", "")
        request.headers["Authorization"] = changed
    refused(request.send(), "InvalidSignatureException", MISMATCH)


@pytest.mark.parametrize("missing", ["Credential", "SignedHeaders", "Signature"])
def test_missing_part(server, readable, missing):
    request = listing(server, readable).sign()
    scheme, _, parts = request.headers["Authorization"].partition(" ")
    rest = [part for part in parts.split(", ") if not part.startswith(missing + "=")]
    request.headers["Authorization"] = f"{scheme} {', '.join(rest)}"
    message = f"Authorization header requires '{missing}' parameter."
    refused(request.send(), "IncompleteSignatureException", message)


def test_two_missing_parts_are_told_together(server, readable):
    request = listing(server, readable).sign()
    request.headers["Authorization"] = "AWS4-HMAC-SHA256 SignedHeaders=host;x-amz-date"
    refused(request.send(), "IncompleteSignatureException", "'Credential'", "'Signature'")


def test_missing_date(server, readable):
    request = listing(server, readable).sign()
    del request.headers["X-Amz-Date"]
    refused(request.send(), "IncompleteSignatureException", "'X-Amz-Date' or a 'Date' header.")


@pytest.mark.parametrize("date", ["yesterday", "2026-11-23T10:00:00Z", "20261399T000000Z", ""])
def test_malformed_date(server, readable, date):
    request = listing(server, readable).sign()
    request.headers["X-Amz-Date"] = date
    reply = request.send()
    assert reply.status == 403, reply
    assert reply.code in ("IncompleteSignatureException", "InvalidSignatureException"), reply


@pytest.mark.parametrize("algorithm", ["AWS4-HMAC-SHA1", "AWS4-ECDSA-P256-SHA256", "Basic", "Bearer"])
def test_unsupported_algorithm(server, readable, algorithm):
    request = listing(server, readable).sign()
    value = request.headers["Authorization"].replace("AWS4-HMAC-SHA256", algorithm)
    request.headers["Authorization"] = value
    reply = request.send()
    assert reply.status == 403, reply
    assert reply.code in ("IncompleteSignatureException", "InvalidSignatureException"), reply


def test_wrong_region(server, readable):
    reply = listing(server, readable).sign(region="eu-west-9").send()
    message = "Credential should be scoped to a valid region, not 'eu-west-9'."
    refused(reply, "InvalidSignatureException", message)


@pytest.mark.parametrize("service", ["ec2", "s3"])
def test_wrong_service(server, readable, service):
    reply = listing(server, readable).sign(service).send()
    message = "Credential should be scoped to correct service: 'ebs'."
    refused(reply, "InvalidSignatureException", message)


def test_wrong_terminator(server, readable):
    reply = listing(server, readable).sign(terminator="aws5_request").send()
    message = "Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'."
    refused(reply, "InvalidSignatureException", message)


def test_wrong_day_in_the_scope(server, readable):
    scope = "20010101/us-east-1/ebs/aws4_request"
    reply = listing(server, readable).sign(scope=scope).send()
    message = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"
    refused(reply, "InvalidSignatureException", message)


def test_faults_of_the_scope_are_told_together(server, readable):
    scope = "20010101/eu-west-9/s3/aws5_request"
    reply = listing(server, readable).sign(scope=scope).send()
    parts = ("valid region", "correct service", "valid terminator", "does not match")
    refused(reply, "InvalidSignatureException", *parts)


@pytest.mark.parametrize("scope", ["20261123/us-east-1/ebs", "a/b/c/d/e", ""])
def test_wrong_number_of_elements(server, readable, scope):
    reply = listing(server, readable).sign(scope=scope).send()
    message = "Credential must have exactly 5 slash-delimited elements"
    refused(reply, "InvalidSignatureException", message)


def test_host_must_be_signed(server, readable):
    reply = listing(server, readable).sign(signed=["x-amz-date"]).send()
    message = "'Host' must be a 'SignedHeader' in the AWS Authorization."
    refused(reply, "InvalidSignatureException", message)


@pytest.mark.parametrize("minutes, text", [(-6, "Signature expired: "), (6, "Signature not yet current: ")])
def test_skewed_clock(server, readable, minutes, text):
    date = amz_date(minutes * 60)
    reply = listing(server, readable).sign(date=date).send()
    refused(reply, "InvalidSignatureException", text, date)


@pytest.mark.parametrize("minutes", [-4, 4])
def test_small_skew_is_allowed(server, readable, minutes):
    assert listing(server, readable).sign(date=amz_date(minutes * 60)).send().status == 200


def test_same_signature_twice_is_no_replay(server, readable):
    """SDKs send the very same bytes again when they retry within a second."""
    request = listing(server, readable).sign()
    assert [request.send().status for _ in range(3)] == [200, 200, 200]


def test_unsigned_extra_headers_are_ignored(server, readable):
    request = listing(server, readable).sign()
    request.headers.update({"User-Agent": "x", "Accept-Encoding": "gzip, br", "amz-sdk-request": "attempt=1"})
    assert request.send().status == 200


def test_date_header_serves_without_x_amz_date(server, readable):
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc)
    request = listing(server, readable)
    request.headers["Date"] = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
    request.headers["X-Amz-Date"] = ""
    request.sign(date=now.strftime("%Y%m%dT%H%M%SZ"), signed=["date", "host"])
    del request.headers["X-Amz-Date"]
    assert request.send().status == 200


def test_put_with_unsigned_payload(server, snapshot):
    reply = put_request(server, snapshot, 0, A).sign().send()
    assert (reply.status, reply.json) == (201, {}), reply


def test_put_with_a_signed_hash(server, snapshot):
    request = put_request(server, snapshot, 1, A)
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(A).hexdigest()
    assert request.sign().send().status == 201


def test_put_with_a_signed_hash_of_another_body(server, snapshot):
    request = put_request(server, snapshot, 1, A)
    request.headers["X-Amz-Content-SHA256"] = hashlib.sha256(COUNTING).hexdigest()
    reply = request.sign().send()
    assert reply.status in (400, 403), reply
    assert reply.json["message"] and reply.json["__type"] == reply.code


def test_put_with_the_hash_in_the_signature_only(server, snapshot):
    """As paws signs: the body's own hash, named by no header."""
    request = put_request(server, snapshot, 2, A)
    del request.headers["X-Amz-Content-SHA256"]
    request.headers |= {"Content-Type": "application/json", "Accept": "application/json"}
    request.headers["Content-Length"] = str(len(A))
    assert request.sign().send().status == 201


def test_put_with_another_body_than_signed(server, snapshot):
    request = put_request(server, snapshot, 2, A)
    del request.headers["X-Amz-Content-SHA256"]
    request.sign()
    request.body = COUNTING
    refused(request.send(), "InvalidSignatureException", MISMATCH)


def test_put_with_unsigned_checksum_headers(server, snapshot):
    """AWS takes them (SPEC 4.5): the payload is as open as its transport."""
    signed = ["host", "x-amz-content-sha256", "x-amz-date"]
    assert put_request(server, snapshot, 3, A).sign(signed=signed).send().status == 201


@pytest.mark.parametrize(
    "value", ["STREAMING-UNSIGNED-PAYLOAD-TRAILER", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "not hex", ""]
)
def test_put_with_a_strange_payload_hash(server, snapshot, value):
    request = put_request(server, snapshot, 3, A)
    request.headers["X-Amz-Content-SHA256"] = value
    reply = request.sign(payload=value or UNSIGNED).send()
    assert 400 <= reply.status < 500, reply
    assert reply.json["message"] and reply.json["__type"] == reply.code


def test_start_with_another_body_than_signed(server):
    body = b'{"VolumeSize":1,"ClientToken":"forged-body"}'
    request = Request(server, "POST", "/snapshots", {"Content-Type": "application/json"}, body).sign()
    request.body = body.replace(b"1", b"2")
    refused(request.send(), "InvalidSignatureException", MISMATCH)


def test_refused_writes_leave_no_trace(server, ebs, ec2):
    snapshot = start(ebs)
    put(ebs, snapshot, 0, A)
    key_id, secret = server.credentials
    for index in (0, 1):
        request = put_request(server, snapshot, index, COUNTING)
        refused(request.sign(keys=(key_id, "x" * 40)).send(), "InvalidSignatureException")
        unnamed = put_request(server, snapshot, index, COUNTING)
        del unnamed.headers["X-Amz-Content-SHA256"]
        refused(unnamed.sign(keys=(key_id, "x" * 40)).send(), "InvalidSignatureException")
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=1)
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == {0: A}


@pytest.mark.parametrize(
    "keys, code, status",
    [
        (("AKIAUNKNOWN000000000", "x" * 40), "AuthFailure", 401),
        ((None, "x" * 40), "SignatureDoesNotMatch", 403),
    ],
)
def test_ec2_has_codes_of_its_own(server, keys, code, status):
    key_id = keys[0] or server.credentials[0]
    found = fault(server.client("ec2", keys=(key_id, keys[1])).describe_regions)
    # The EC2 lists name more than one code for an unknown key.
    assert found.code in (code, "AuthFailure", "InvalidClientTokenId"), found
    assert found.status in (status, 401, 403), found


def test_sts_refuses_too(server):
    found = fault(server.client("sts", keys=(server.credentials[0], "x" * 40)).get_caller_identity)
    assert found.status in (401, 403) and found.code, found


def test_clients_see_their_codes(server, readable):
    found = fault(server.client("ebs", keys=("AKIAUNKNOWN000000000", "x" * 40)).list_snapshot_blocks, SnapshotId=readable)
    assert (found.status, found.code) == (403, "UnrecognizedClientException")
    assert found.message == "The security token included in the request is invalid."
    assert list_blocks(server.client("ebs"), readable)
