"""What a settings file changes on the wire and on disk (docs/drystone.toml)."""

import pytest
from content import BLOCK, letter, unique
from server import NotReady
from session import download, start, upload
from wire import put_request


@pytest.fixture
def with_settings(fresh, tmp_path):
    """Starts a server with the text of a settings file."""

    def make(text: str, **more):
        path = tmp_path / "drystone.toml"
        path.write_text(text)
        return fresh("--config", str(path), **more)

    return make



def test_compressed_store(with_settings, tmp_path):
    """Whatever the codec: the same bytes come back, also after it was changed."""
    server = with_settings('[store]\ncompression = "zstd:3"\n')
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    text = (b"a line of text that compresses well, number %09d\n" % 7) * 20000
    blocks = {index: (b"%6d" % index + text)[:BLOCK] for index in range(40)}
    blocks |= {40: unique("does not compress"), 41: letter("a")}
    first = upload(ebs, ec2, blocks)
    assert download(ebs, first) == blocks
    server.stop()
    (tmp_path / "drystone.toml").write_text('[store]\ncompression = "none"\n')
    server.start()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    assert download(ebs, first) == blocks
    second = upload(ebs, ec2, {0: blocks[1], 1: unique("plain")}, ParentSnapshotId=first)
    assert download(ebs, second) == {**blocks, 0: blocks[1], 1: unique("plain")}


def test_required_checksum_headers(with_settings):
    """With an open payload, unsigned checksum headers say nothing about who sent the bytes (SPEC 4.5)."""
    server = with_settings('[auth]\nsigned_checksum = "required"\n')
    snapshot = start(server.client("ebs"))
    signed = ["host", "x-amz-content-sha256", "x-amz-date"]
    reply = put_request(server, snapshot, 0, letter("a")).sign(signed=signed).send()
    assert (reply.status, reply.code) == (403, "InvalidSignatureException"), reply
    assert put_request(server, snapshot, 0, letter("a")).sign().send().status == 201
    unnamed = put_request(server, snapshot, 1, letter("a"))
    del unnamed.headers["X-Amz-Content-SHA256"]
    assert unnamed.sign(signed=["host", "x-amz-date"]).send().status == 201


def test_default_page_size(with_settings):
    server = with_settings("[http]\nmax_results_default = 100\n")
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    snapshot = upload(ebs, ec2, {index: letter("a") for index in range(130)})
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot)
    assert len(page["Blocks"]) == 100 and page["NextToken"]


@pytest.mark.parametrize("text", ["colour = 1\n", "[store]\ncompression = 1\n", "listen = \"nowhere\"\n", "not toml"])
def test_wrong_settings_are_refused(with_settings, text):
    with pytest.raises(NotReady) as refusal:
        with_settings(text)
    assert "drystone.toml" in str(refusal.value), refusal.value


def test_command_line_wins_over_the_file(fresh, tmp_path):
    path = tmp_path / "drystone.toml"
    path.write_text('listen = "127.0.0.1:1"\ndata = "elsewhere"\n')
    server = fresh("--config", str(path))
    assert (server.data / "credentials").exists()
