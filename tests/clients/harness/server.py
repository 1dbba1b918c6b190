"""The built server on a free port of the loopback interface, and clients that talk to it.

`Server` starts `drystone serve` on a data directory, waits until /healthz answers 200 and reads the
credentials that the first start wrote. It can be stopped, killed and started again on the same
directory. The server dies with the process that started it.
"""

import configparser
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import boto3
from botocore.config import Config

REGION = "us-east-1"
# Virtual machines stand still for a minute now and then; a test must not fail for that.
READY_SECONDS = 120
STOP_SECONDS = 100
ANSWER_SECONDS = 150
PR_SET_PDEATHSIG = 1


def binary() -> Path:
    """The server under test: DRYSTONE_BIN, else the debug build."""
    given = os.environ.get("DRYSTONE_BIN")
    path = Path(given) if given else Path(__file__).parents[3] / "target/debug/drystone"
    if not path.is_file():
        raise FileNotFoundError(f"no server at {path}: build it, or set DRYSTONE_BIN")
    return path.resolve()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class NotReady(Exception):
    """The server did not come up; the message holds its log."""


class Server:
    """One server process on one data directory."""

    def __init__(self, data: Path, *args: str):
        self.data = data
        self.args = args
        self.log = data.parent / f"{data.name}.log"
        self.process = None
        self.port = 0

    def start(self) -> "Server":
        self.port = free_port()
        command = [str(binary()), "serve", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--data", str(self.data), *self.args]
        # Settings of whoever runs the tests must not reach the server.
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "DRYSTONE_"))}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean,
                cwd=self.data.parent,
                preexec_fn=die_with_parent,
            )
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise NotReady(f"ended with status {self.process.returncode}\n{self.log_tail()}")
            try:
                if self.get("/healthz").status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.02)
        self.kill()
        raise NotReady(f"not ready after {READY_SECONDS} s\n{self.log_tail()}")

    def get(self, path: str) -> http.client.HTTPResponse:
        """A plain unsigned GET whose body has been read (`response.text`)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            response.text = response.read().decode()
            return response
        finally:
            connection.close()

    def stop(self) -> int:
        """Asks it to stop, as an init system would, and answers the exit status."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
                raise AssertionError(f"did not stop in {STOP_SECONDS} s\n{self.log_tail()}")
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL: nothing runs in the server after this."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_SECONDS)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def log_tail(self) -> str:
        return "\n".join(self.log_text().splitlines()[-40:])

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def credentials(self) -> tuple[str, str]:
        """Access key id and secret of the account that the first start made."""
        parser = configparser.ConfigParser()
        parser.read(self.data / "credentials")
        profile = parser["default"]
        return profile["aws_access_key_id"], profile["aws_secret_access_key"]

    def client(self, service: str, *, validate: bool = True, keys=None, **config):
        """A boto3 client that never retries, unless told to, so that every answer is seen."""
        key_id, secret = keys or self.credentials
        return boto3.session.Session().client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            config=Config(
                connect_timeout=ANSWER_SECONDS,
                read_timeout=ANSWER_SECONDS,
                parameter_validation=validate,
                **{
                    "max_pool_connections": 64,
                    "retries": {"total_max_attempts": 1},
                    **config,
                },
            ),
        )

    def command(self, *args: str, timeout: float = ANSWER_SECONDS) -> subprocess.CompletedProcess:
        """Runs `drystone ARGS` beside the server and answers its status and output."""
        return subprocess.run(
            [str(binary()), *args],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.data.parent,
        )
