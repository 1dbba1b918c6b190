"""Children, changed blocks, and what stays when a parent goes (SPEC 2.6, 3.8, 3.9)."""

import pytest
from content import BLOCK, ZERO, letter, unique
from session import (
    constraint,
    download,
    get,
    invalid,
    list_blocks,
    list_changed,
    not_found,
    pages,
    start,
    upload,
    wait,
)

A, B, C = letter("a"), letter("b"), letter("c")


@pytest.fixture(scope="module")
def family(ebs, ec2):
    """parent {0:a 1:b 2:zero}, child {1:c 5:a}, grandchild {0:zero}, sibling {7:c}."""
    parent = upload(ebs, ec2, {0: A, 1: B, 2: ZERO})
    child = upload(ebs, ec2, {1: C, 5: A}, ParentSnapshotId=parent)
    grandchild = upload(ebs, ec2, {0: ZERO}, ParentSnapshotId=child)
    sibling = upload(ebs, ec2, {7: C}, ParentSnapshotId=parent)
    return parent, child, grandchild, sibling


def sides(changed: dict) -> dict:
    """{index: "1", "2" or "12"}: which sides have a token."""
    return {i: ("1" if first else "") + ("2" if second else "") for i, (first, second) in changed.items()}


def test_merged_view(ebs, ec2, family):
    parent, child, grandchild, sibling = family
    assert download(ebs, parent) == {0: A, 1: B, 2: ZERO}
    assert download(ebs, child) == {0: A, 1: C, 2: ZERO, 5: A}
    assert download(ebs, grandchild) == {0: ZERO, 1: C, 2: ZERO, 5: A}
    assert download(ebs, sibling) == {0: A, 1: B, 2: ZERO, 7: C}
    assert wait(ec2, grandchild)["FullSnapshotSizeInBytes"] == 4 * BLOCK


@pytest.mark.parametrize(
    "first, second, expected",
    [
        (0, 1, {1: "12", 5: "2"}),
        (1, 0, {1: "12", 5: "1"}),
        (0, 2, {0: "12", 1: "12", 5: "2"}),
        (2, 0, {0: "12", 1: "12", 5: "1"}),
        (1, 2, {0: "12"}),
        (1, 3, {1: "12", 5: "1", 7: "2"}),
        (3, 2, {0: "12", 1: "12", 5: "2", 7: "1"}),
    ],
)
def test_changed_blocks(ebs, family, first, second, expected):
    changed = list_changed(ebs, family[first], family[second])
    assert sides(changed) == expected


def test_changed_blocks_read_as_asked(ebs, family):
    changed = list_changed(ebs, family[0], family[2])
    assert get(ebs, family[0], 1, changed[1][0]) == B
    assert get(ebs, family[2], 1, changed[1][1]) == C
    assert get(ebs, family[2], 0, changed[0][1]) == ZERO


def test_same_snapshot_twice(ebs, family):
    answer = ebs.list_changed_blocks(FirstSnapshotId=family[1], SecondSnapshotId=family[1])
    assert answer["ChangedBlocks"] == [] and "NextToken" not in answer


def test_answer_names_the_sizes_on_every_page(ebs, ec2):
    parent = upload(ebs, ec2, {index: A for index in range(250)})
    child = upload(ebs, ec2, {i: B for i in range(250)}, gib=2, ParentSnapshotId=parent)
    both = {"FirstSnapshotId": parent, "SecondSnapshotId": child}
    found = pages(ebs.list_changed_blocks, MaxResults=100, **both)
    assert len(found) >= 3
    for page in found:
        assert (page["BlockSize"], page["VolumeSize"]) == (BLOCK, 2)
        assert "ExpiryTime" in page and len(page["ChangedBlocks"]) <= 100
    assert sorted(list_changed(ebs, parent, child, MaxResults=100)) == list(range(250))


def test_missing_sides_are_explicit_nulls(server, family):
    from wire import Request

    target = f"/snapshots/{family[1]}/changedblocks?firstSnapshotId={family[0]}"
    answer = Request(server, "GET", target).sign().send().json
    by_index = {block["BlockIndex"]: block for block in answer["ChangedBlocks"]}
    assert by_index[5]["FirstBlockToken"] is None
    assert answer["NextToken"] is None


def test_rewriting_the_same_bytes_is_no_change(ebs, ec2):
    """A known difference from AWS (docs/wire.md): fewer blocks to move, the same content."""
    parent = upload(ebs, ec2, {0: A, 1: B})
    child = upload(ebs, ec2, {0: A, 1: C}, ParentSnapshotId=parent)
    assert list(list_changed(ebs, parent, child)) == [1]


def test_unrelated(ebs, ec2, family):
    other = upload(ebs, ec2, {0: A, 1: B, 2: ZERO})
    both = {"FirstSnapshotId": family[0], "SecondSnapshotId": other}
    invalid(ebs.list_changed_blocks, "UNRELATED_SNAPSHOTS", **both)


def test_first_snapshot_missing(ebs, family):
    invalid(
        ebs.list_changed_blocks,
        "INVALID_SNAPSHOT_ID",
        "First snapshot should not be empty or null",
        SecondSnapshotId=family[0],
    )


def test_unknown_sides(ebs, family):
    missing, other = "snap-0123456789abcdef1", "snap-0123456789abcdef2"
    call = ebs.list_changed_blocks
    not_found(call, of=missing, FirstSnapshotId=missing, SecondSnapshotId=family[0])
    not_found(call, of=missing, FirstSnapshotId=family[0], SecondSnapshotId=missing)
    # The first is looked at first.
    not_found(call, of=missing, FirstSnapshotId=missing, SecondSnapshotId=other)


def test_pending_side(ebs, family):
    pending = start(ebs, ParentSnapshotId=family[0])
    both = {"FirstSnapshotId": family[0], "SecondSnapshotId": pending}
    not_found(ebs.list_changed_blocks, of=pending, **both)


@pytest.mark.parametrize("most, rule", [(99, "greater than or equal to 100"), (10001, "less than or equal to 10000")])
def test_max_results_bounds(unchecked, family, most, rule):
    rule = f"Member must have value {rule}"
    call = {"FirstSnapshotId": family[0], "SecondSnapshotId": family[1], "MaxResults": most}
    constraint(unchecked.list_changed_blocks, "maxResults", rule, **call)


@pytest.mark.parametrize("first, expected", [(0, [0, 1, 5]), (1, [1, 5]), (2, [5]), (5, [5]), (6, []), (9999, [])])
def test_starting_index(ebs, family, first, expected):
    found = list_changed(ebs, family[0], family[2], StartingBlockIndex=first)
    assert list(found) == expected


def test_child_without_writes(ebs, ec2, family):
    child = upload(ebs, ec2, {}, ParentSnapshotId=family[1])
    assert download(ebs, child) == download(ebs, family[1])
    assert list_changed(ebs, family[1], child) == {}


def test_larger_child(ebs, ec2, family):
    child = upload(ebs, ec2, {2048: C, 6143: B}, gib=3, ParentSnapshotId=family[0])
    assert download(ebs, child) == {0: A, 1: B, 2: ZERO, 2048: C, 6143: B}
    assert sides(list_changed(ebs, family[0], child)) == {2048: "2", 6143: "2"}
    assert sides(list_changed(ebs, child, family[0])) == {2048: "1", 6143: "1"}


def test_child_outlives_its_parents(ebs, ec2):
    first, second = unique("outlives 1"), unique("outlives 2")
    parent = upload(ebs, ec2, {0: first, 1: A})
    child = upload(ebs, ec2, {1: second}, ParentSnapshotId=parent)
    grandchild = upload(ebs, ec2, {9: C}, ParentSnapshotId=child)
    token = list_blocks(ebs, grandchild)[0]
    ec2.delete_snapshot(SnapshotId=parent)
    ec2.delete_snapshot(SnapshotId=child)
    assert get(ebs, grandchild, 0, token) == first
    assert download(ebs, grandchild) == {0: first, 1: second, 9: C}


def test_relatives_stay_comparable_when_the_link_is_deleted(ebs, ec2):
    parent = upload(ebs, ec2, {0: A})
    child = upload(ebs, ec2, {1: A}, ParentSnapshotId=parent)
    grandchild = upload(ebs, ec2, {2: A}, ParentSnapshotId=child)
    ec2.delete_snapshot(SnapshotId=child)
    assert sides(list_changed(ebs, parent, grandchild)) == {1: "2", 2: "2"}


def test_long_chain(ebs, ec2):
    """A hundred generations: the last one sees them all, and costs what the first one costs."""
    snapshot, expected, chain = None, {}, []
    for generation in range(100):
        data = A if generation % 2 else B
        parent = {"ParentSnapshotId": snapshot} if snapshot else {}
        snapshot = upload(ebs, ec2, {generation * 20: data, 5: data}, **parent)
        expected.update({generation * 20: data, 5: data})
        chain.append(snapshot)
    assert download(ebs, snapshot) == expected
    changed = list_changed(ebs, chain[0], snapshot)
    assert sides(changed) == {5: "12", **{g * 20: "2" for g in range(1, 100)}}
