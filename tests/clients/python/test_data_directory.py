"""The data directory: first start, one server at a time, versions, and damage (README, DESIGN 2.3)."""

import os
import re
import signal
import stat
import subprocess

import pytest
from content import BLOCK, ZERO, letter, unique
from server import ANSWER_SECONDS, NotReady, Server, binary, free_port
from session import download, fault, get, list_blocks, put, start, upload, wait


def refused(server) -> str:
    """Starts a server that must not come up; answers what it said."""
    with pytest.raises(NotReady) as refusal:
        server.start()
    assert server.process.returncode not in (None, 0)
    return str(refusal.value)


def test_first_start(fresh):
    server = fresh()
    path = server.data / "credentials"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((server.data / "root.key").stat().st_mode) == 0o600
    key_id, secret = server.credentials
    assert re.fullmatch(r"AKIA[A-Z0-9]{16}", key_id) and len(secret) == 40
    log = server.log_text()
    assert secret not in log
    assert "credentials" in log, "the first start prints the lines to paste"


def test_credentials_stay_the_same(fresh):
    server = fresh()
    before = server.credentials
    server.stop()
    server.start()
    assert server.credentials == before
    assert server.client("sts").get_caller_identity()["Account"]


def test_credentials_file_serves_as_a_shared_credentials_file(fresh, monkeypatch):
    import boto3

    server = fresh()
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(server.data / "credentials"))
    client = boto3.session.Session().client("ebs", endpoint_url=server.endpoint, region_name="us-east-1")
    assert client.start_snapshot(VolumeSize=1)["Status"] == "pending"


def test_second_server_is_refused(fresh):
    first = fresh()
    second = Server(first.data)
    said = refused(second)
    assert "in use" in said and str(first.data) in said, said
    assert start(first.client("ebs"))


def test_lock_goes_with_a_killed_server(fresh):
    server = fresh()
    server.kill()
    server.start()


def test_newer_version_is_refused_with_both_named(fresh):
    server = fresh()
    server.stop()
    version = server.data / "VERSION"
    text = version.read_text()
    version.write_text(re.sub(r"\d+", "77", text))
    said = refused(server)
    assert "77" in said and "1" in said, said
    version.write_text(text)
    server.start()


def test_newer_catalog_is_refused(fresh):
    """A catalog of a later format is left alone, and the message names both versions."""
    import sqlite3

    server = fresh()
    server.stop()
    database = sqlite3.connect(server.data / "catalog.db")
    (version,) = database.execute("SELECT number FROM meta WHERE name = 'format_version'").fetchone()
    database.execute("UPDATE meta SET number = 99 WHERE name = 'format_version'")
    database.commit()
    database.close()
    command = [str(binary()), "serve", "--listen", "127.0.0.1:0", "--data", str(server.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    assert done.returncode != 0
    assert "99" in done.stderr and f"up to {version}" in done.stderr, done.stderr


def test_address_in_use(fresh):
    first = fresh()
    other = fresh(started=False)
    command = [str(binary()), "serve", "--listen", f"127.0.0.1:{first.port}", "--data", str(other.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_SECONDS)
    assert done.returncode != 0 and str(first.port) in done.stderr, done.stderr


def test_interrupt_stops_it(fresh):
    server = fresh()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(ANSWER_SECONDS) == 0


def test_other_region(fresh):
    import boto3

    server = fresh("--region", "drystone-1")
    key_id, secret = server.credentials
    own = boto3.session.Session().client(
        "ebs", endpoint_url=server.endpoint, region_name="drystone-1",
        aws_access_key_id=key_id, aws_secret_access_key=secret,
    )
    assert own.start_snapshot(VolumeSize=1)["SnapshotId"]
    found = fault(server.client("ebs").start_snapshot, VolumeSize=1)
    assert "Credential should be scoped to a valid region" in found.message


def test_bad_arguments_are_explained(folder):
    for args in (["serve", "--listen", "nowhere"], ["serve", "--colour"], ["bake"]):
        done = subprocess.run([str(binary()), *args], capture_output=True, text=True, timeout=ANSWER_SECONDS, cwd=folder)
        assert done.returncode != 0 and done.stderr.strip(), args
        assert "panicked" not in done.stderr


def find_in_segments(server, needle: bytes) -> list:
    """(file, offset) of some bytes, in all files of the chunk store."""
    found = []
    for path in sorted((server.data / "segments").rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            at = data.find(needle)
            while at >= 0:
                found.append((path, at))
                at = data.find(needle, at + 1)
    return found


def flip(path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x40]))
        file.flush()
        os.fsync(file.fileno())


@pytest.mark.parametrize("place", ["first byte", "middle", "last byte"])
def test_damaged_frame_is_never_served(fresh, place):
    server = fresh()
    blocks = {index: unique(("damage", index)) for index in range(4)}
    snapshot = upload(server.client("ebs"), server.client("ec2"), blocks)
    server.stop()
    [(path, offset)] = find_in_segments(server, blocks[2][:64])
    flip(path, offset + {"first byte": 0, "middle": BLOCK // 2, "last byte": BLOCK - 1}[place])
    server.start()
    ebs = server.client("ebs")
    tokens = list_blocks(ebs, snapshot)
    for _ in range(2):
        call = {"SnapshotId": snapshot, "BlockIndex": 2, "BlockToken": tokens[2]}
        found = fault(ebs.get_snapshot_block, **call)
        assert (found.status, found.code) == (500, "InternalServerException"), found
    for index in (0, 1, 3):
        assert get(ebs, snapshot, index, tokens[index]) == blocks[index]
    lines = [line for line in server.log_text().splitlines() if snapshot in line]
    assert any(re.search(r"\b2\b", line) for line in lines), server.log_tail()


def test_damaged_chunk_is_healed_by_the_next_put(fresh):
    """Damaged content is never a target of deduplication: the same bytes are stored anew."""
    server = fresh()
    blocks = {0: unique("heal"), 1: letter("a")}
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshot = upload(ebs, ec2, blocks)
    server.stop()
    [(path, offset)] = find_in_segments(server, blocks[0][:64])
    flip(path, offset + 100)
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    token = list_blocks(ebs, snapshot)[0]
    fault(ebs.get_snapshot_block, SnapshotId=snapshot, BlockIndex=0, BlockToken=token)
    again = upload(ebs, ec2, {5: blocks[0]})
    assert download(ebs, again) == {5: blocks[0]}
    assert download(ebs, snapshot) == blocks


def test_damaged_header_is_never_served(fresh):
    server = fresh()
    data = unique("header")
    snapshot = upload(server.client("ebs"), server.client("ec2"), {0: data})
    server.stop()
    [(path, offset)] = find_in_segments(server, data[:64])
    for distance in (4096, 4000, 3900):
        flip(path, offset - distance)
    server.start()
    ebs = server.client("ebs")
    token = list_blocks(ebs, snapshot)[0]
    found = fault(ebs.get_snapshot_block, SnapshotId=snapshot, BlockIndex=0, BlockToken=token)
    assert (found.status, found.code) == (500, "InternalServerException"), found


def test_missing_segment_is_told(fresh):
    """Files that went away are not silently taken for zeros."""
    server = fresh()
    data = unique("missing")
    snapshot = upload(server.client("ebs"), server.client("ec2"), {0: data})
    server.stop()
    [(path, _)] = find_in_segments(server, data[:64])
    path.rename(path.with_suffix(".away"))
    try:
        server.start()
    except NotReady as refusal:
        assert path.name in str(refusal) or "segment" in str(refusal), refusal
        return
    ebs = server.client("ebs")
    found = fault(ebs.list_snapshot_blocks, SnapshotId=snapshot)
    assert found.status == 500, found


def test_equal_blocks_are_stored_once(fresh):
    server = fresh()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    data = unique("once")
    first = upload(ebs, ec2, {index: data for index in range(50)})
    second = upload(ebs, ec2, {index: data for index in range(100, 150)})
    assert len(find_in_segments(server, data[:64])) == 1
    assert len(download(ebs, first)) == len(download(ebs, second)) == 50


def test_zero_blocks_take_no_room(fresh):
    server = fresh()
    ebs, ec2 = server.client("ebs"), server.client("ec2")

    def used():
        files = (server.data / "segments").rglob("*")
        return sum(path.stat().st_blocks * 512 for path in files if path.is_file())

    upload(ebs, ec2, {0: unique("room")})
    before = used()
    upload(ebs, ec2, {index: ZERO for index in range(400)})
    assert used() - before < 64 * BLOCK


def test_free_port_is_free():
    assert 1024 < free_port() < 65536


def test_puts_go_on_after_a_restart_in_the_middle(fresh):
    server = fresh()
    ebs = server.client("ebs")
    snapshot = start(ebs)
    put(ebs, snapshot, 0, letter("a"))
    server.stop()
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    put(ebs, snapshot, 1, letter("b"))
    ebs.complete_snapshot(SnapshotId=snapshot, ChangedBlocksCount=2)
    wait(ec2, snapshot)
    assert download(ebs, snapshot) == {0: letter("a"), 1: letter("b")}
