"""Block tokens and page tokens (SPEC 3.10): bound to what they were made for, and not to be forged."""

import pytest
from content import letter, unique
from session import constraint, fault, get, invalid, list_blocks, list_changed, not_found, start, upload

SAFE = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-_")


@pytest.fixture(scope="module")
def pair(ebs, ec2):
    """A parent of 150 blocks and a child that changes 120 of them."""
    parent = upload(ebs, ec2, {index: letter("a") for index in range(150)})
    child = upload(ebs, ec2, {i: letter("b") for i in range(120)}, ParentSnapshotId=parent)
    return parent, child


def refused(ebs, snapshot, index, token):
    message = f"The block token {token} is invalid."
    call = {"SnapshotId": snapshot, "BlockIndex": index, "BlockToken": token}
    invalid(ebs.get_snapshot_block, "INVALID_BLOCK_TOKEN", message, **call)


def page_refused(call, token, **ids):
    message = f"The pagination token {token} is invalid."
    invalid(call, "INVALID_PAGE_TOKEN", message, NextToken=token, **ids)


def changed_by_one(token: str):
    """Every token that differs in one character."""
    for at, old in enumerate(token):
        yield token[:at] + ("A" if old != "A" else "B") + token[at + 1 :]


def test_block_token_is_short_and_plain(ebs, pair):
    for token in list_blocks(ebs, pair[0]).values():
        assert len(token) <= 128 and token.isascii() and token.isalnum()


def test_block_token_for_another_index(ebs, pair):
    tokens = list_blocks(ebs, pair[0])
    refused(ebs, pair[0], 1, tokens[0])
    refused(ebs, pair[0], 149, tokens[0])


def test_block_token_of_another_snapshot(ebs, pair):
    parent, child = pair
    # Index 130 holds the same bytes in both.
    refused(ebs, child, 130, list_blocks(ebs, parent)[130])
    refused(ebs, parent, 130, list_blocks(ebs, child)[130])


def test_block_token_changed_anywhere(ebs, pair):
    token = list_blocks(ebs, pair[0])[7]
    for forged in changed_by_one(token):
        refused(ebs, pair[0], 7, forged)


@pytest.mark.parametrize("token", ["A", "AAAA", "a" * 64, "=" * 8, "AAUBAcuWqOCnDNuKle11s7IIX6jp6FYcC/q8oT93HhHb", "a" * 256])
def test_block_token_malformed(ebs, pair, token):
    refused(ebs, pair[0], 0, token)


def test_block_token_cut_or_longer(ebs, pair):
    token = list_blocks(ebs, pair[0])[7]
    for forged in (token[:-1], token[1:], token + "A", token + token):
        if len(forged) <= 256:
            refused(ebs, pair[0], 7, forged)


def test_block_token_too_long(unchecked, pair):
    rule = "Member must have length less than or equal to 256"
    call = {"SnapshotId": pair[0], "BlockIndex": 0, "BlockToken": "a" * 257}
    constraint(unchecked.get_snapshot_block, "blockToken", rule, **call)


@pytest.mark.parametrize("token", ["", "not a token", "a%b", "\u00e9"])
def test_block_token_of_wrong_letters(unchecked, pair, token):
    rule = "Member must satisfy regular expression pattern: ^[A-Za-z0-9+/=_-]+$"
    call = {"SnapshotId": pair[0], "BlockIndex": 0, "BlockToken": token}
    constraint(unchecked.get_snapshot_block, "blockToken", rule, **call)


def test_block_token_missing(server, pair):
    from wire import Request

    reply = Request(server, "GET", f"/snapshots/{pair[0]}/blocks/0").sign().send()
    assert (reply.status, reply.code) == (400, "ValidationException"), reply
    assert "Value null at 'blockToken'" in reply.json["message"]


def test_page_token_is_no_block_token_and_the_reverse(ebs, pair):
    parent, _ = pair
    page = ebs.list_snapshot_blocks(SnapshotId=parent, MaxResults=100)
    refused(ebs, parent, 100, page["NextToken"])
    token = page["Blocks"][0]["BlockToken"]
    page_refused(ebs.list_snapshot_blocks, token, SnapshotId=parent)


def test_old_tokens_stay_valid_after_listing_again(ebs, pair):
    old = list_blocks(ebs, pair[0])[3]
    list_blocks(ebs, pair[0])
    assert get(ebs, pair[0], 3, old) == letter("a")


def test_tokens_of_a_changed_list_read_both_sides(ebs, pair):
    parent, child = pair
    changed = list_changed(ebs, parent, child)
    first, second = changed[5]
    assert get(ebs, parent, 5, first) == letter("a")
    assert get(ebs, child, 5, second) == letter("b")
    refused(ebs, parent, 5, second)
    refused(ebs, child, 5, first)


def test_page_tokens_are_bound_to_snapshot_and_operation(ebs, pair):
    parent, child = pair
    plain = ebs.list_snapshot_blocks(SnapshotId=parent, MaxResults=100)["NextToken"]
    both = {"FirstSnapshotId": parent, "SecondSnapshotId": child}
    changed = ebs.list_changed_blocks(MaxResults=100, **both)["NextToken"]
    for token in (plain, changed):
        assert len(token) <= 256 and set(token) <= SAFE
    page_refused(ebs.list_snapshot_blocks, plain, SnapshotId=child)
    page_refused(ebs.list_snapshot_blocks, changed, SnapshotId=child)
    page_refused(ebs.list_snapshot_blocks, changed, SnapshotId=parent)
    page_refused(ebs.list_changed_blocks, plain, **both)
    reverse = {"FirstSnapshotId": child, "SecondSnapshotId": parent}
    page_refused(ebs.list_changed_blocks, changed, **reverse)


def test_page_token_changed_anywhere(ebs, pair):
    token = ebs.list_snapshot_blocks(SnapshotId=pair[0], MaxResults=100)["NextToken"]
    for forged in changed_by_one(token):
        page_refused(ebs.list_snapshot_blocks, forged, SnapshotId=pair[0])


def test_page_token_malformed(ebs, pair):
    for token in ("A", "AAAA", "x" * 256):
        page_refused(ebs.list_snapshot_blocks, token, SnapshotId=pair[0])


def test_page_token_of_wrong_letters(unchecked, pair):
    for token in ("", "not a token", "x" * 257):
        found = fault(unchecked.list_snapshot_blocks, SnapshotId=pair[0], NextToken=token)
        assert (found.status, found.code) == (400, "ValidationException"), found


def test_existence_is_decided_before_the_page_token(ebs):
    snapshot = start(ebs)
    not_found(ebs.list_snapshot_blocks, of=snapshot, SnapshotId=snapshot, NextToken="AAAA")


def test_tokens_survive_a_restart(fresh):
    server = fresh()
    ebs, ec2 = server.client("ebs"), server.client("ec2")
    blocks = {index: letter("a") for index in range(120)}
    snapshot = upload(ebs, ec2, {**blocks, 0: unique("restart")})
    page = ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100)
    server.stop()
    server.start()
    ebs = server.client("ebs")
    token = page["Blocks"][0]["BlockToken"]
    assert get(ebs, snapshot, 0, token) == unique("restart")
    rest = ebs.list_snapshot_blocks(SnapshotId=snapshot, MaxResults=100, NextToken=page["NextToken"])
    assert [block["BlockIndex"] for block in rest["Blocks"]] == list(range(100, 120))


def test_tokens_of_another_store_are_refused(fresh, server, ebs, ec2):
    """Two stores that hold the same bytes at the same index do not share tokens."""
    other = fresh()
    theirs = upload(other.client("ebs"), other.client("ec2"), {0: letter("a")})
    token = list_blocks(other.client("ebs"), theirs)[0]
    ours = upload(ebs, ec2, {0: letter("a")})
    refused(ebs, ours, 0, token)
