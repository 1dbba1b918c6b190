"""Requests that no client would send: signed by hand, or not at all, byte by byte.

The signer is our own (SPEC 4.3), so that every part of a signature can be wrong on purpose.
"""

import datetime
import hashlib
import hmac
import http.client
import json
import socket
from urllib.parse import quote, unquote

from server import ANSWER_SECONDS

EMPTY_HASH = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"


class Reply:
    """Status, headers and body of an answer."""

    def __init__(self, status: int, headers, body: bytes):
        self.status = status
        self.headers = {name.lower(): value for name, value in headers}
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code, as SDKs read it: the header up to its colon."""
        return self.headers.get("x-amzn-errortype", "").split(":")[0]

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:400]!r}"


def amz_date(seconds_from_now: float = 0) -> str:
    now = datetime.datetime.now(datetime.timezone.utc)
    return (now + datetime.timedelta(seconds=seconds_from_now)).strftime("%Y%m%dT%H%M%SZ")


class Request:
    """A request to be signed and sent. Every field may be changed before `sign` and after it."""

    def __init__(self, server, method: str, target: str, headers=None, body: bytes = b""):
        self.server = server
        self.method = method
        self.target = target
        self.headers = {"Host": f"127.0.0.1:{server.port}", **(headers or {})}
        self.body = body

    def sign(
        self,
        service: str = "ebs",
        region: str = "us-east-1",
        *,
        keys=None,
        date: str | None = None,
        scope: str | None = None,
        signed: list | None = None,
        payload: str | None = None,
        terminator: str = "aws4_request",
    ) -> "Request":
        """Adds X-Amz-Date and Authorization. `signed` names headers; the default is all of them."""
        key_id, secret = keys or self.server.credentials
        date = date or amz_date()
        self.headers.setdefault("X-Amz-Date", date)
        lower = {name.lower(): " ".join(str(v).split()) for name, v in self.headers.items()}
        names = sorted(signed if signed is not None else lower)
        payload = payload or lower.get("x-amz-content-sha256") or hashlib.sha256(self.body).hexdigest()
        path, _, query = self.target.partition("?")
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        encode = lambda text: quote(unquote(text), safe="-_.~")
        query = "&".join(sorted(f"{encode(name)}={encode(value)}" for name, _, value in pairs))
        canonical = "\n".join(
            [
                self.method,
                quote(path, safe="/-_.~"),
                query,
                *(f"{name}:{lower.get(name, '')}" for name in names),
                "",
                ";".join(names),
                payload,
            ]
        )
        if scope is None:
            scope = f"{date[:8]}/{region}/{service}/{terminator}"
        key = b"AWS4" + secret.encode()
        for part in (date[:8], region, service, terminator):
            key = hmac.digest(key, part.encode(), "sha256")
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashed])
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        self.headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, "
            f"SignedHeaders={';'.join(names)}, Signature={signature}"
        )
        return self

    def send(self, timeout: float = ANSWER_SECONDS) -> Reply:
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=timeout)
        try:
            connection.putrequest(
                self.method, self.target, skip_host=True, skip_accept_encoding=True
            )
            headers = dict(self.headers)
            names = {name.lower() for name in headers}
            if "content-length" not in names and "transfer-encoding" not in names:
                headers["Content-Length"] = str(len(self.body))
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            try:
                connection.send(self.body)
            except OSError:
                pass  # refused early: the answer may be there all the same
            answer = connection.getresponse()
            return Reply(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def head(self) -> bytes:
        """Request line and headers as bytes, for sending by hand."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


def put_request(server, snapshot: str, index, data: bytes, **headers) -> Request:
    """PutSnapshotBlock as boto3 sends it, not yet signed."""
    from content import BLOCK, checksum

    own = {
        "x-amz-Data-Length": str(BLOCK),
        "x-amz-Checksum": checksum(data),
        "x-amz-Checksum-Algorithm": "SHA256",
        "X-Amz-Content-SHA256": UNSIGNED,
    }
    return Request(server, "PUT", f"/snapshots/{snapshot}/blocks/{index}", {**own, **headers}, data)


def connect(server, timeout: float = ANSWER_SECONDS) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout)


def read_reply(connection: socket.socket) -> Reply:
    """Reads one answer from a raw connection."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return Reply(answer.status, answer.getheaders(), answer.read())
