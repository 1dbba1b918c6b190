"""Servers and clients for every test: one shared server, and fresh ones for tests that break things."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from server import Server

# No test may reach AWS by accident, or read the settings of whoever runs it.
for name in [name for name in os.environ if name.startswith("AWS_")]:
    del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


def check_log(server: Server) -> None:
    assert "panicked at" not in server.log_text(), server.log_tail()


@pytest.fixture(scope="session")
def folder():
    """A folder that is removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="drystone-clients-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def server(folder):
    """The server that most tests share. It must still stop cleanly at the end."""
    server = Server(folder / "shared").start()
    yield server
    assert server.process.poll() is None, f"it died:\n{server.log_tail()}"
    assert server.stop() == 0, server.log_tail()
    check_log(server)


@pytest.fixture
def fresh(folder):
    """Makes servers on data directories of their own: `fresh(*args)` answers a started one."""
    made = []

    def make(*args: str, data: Path | None = None, started: bool = True) -> Server:
        data = data or Path(tempfile.mkdtemp(dir=folder)) / "data"
        server = Server(data, *args)
        made.append(server)
        return server.start() if started else server

    yield make
    for server in made:
        server.kill()
        check_log(server)
        shutil.rmtree(server.data, ignore_errors=True)


@pytest.fixture(scope="session")
def ebs(server):
    return server.client("ebs")


@pytest.fixture(scope="session")
def unchecked(server):
    """A client that sends whatever it is given."""
    return server.client("ebs", validate=False)


@pytest.fixture(scope="session")
def ec2(server):
    return server.client("ec2")
