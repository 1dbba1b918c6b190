"""The story of a disk: it goes in as a snapshot, its changes as a child, and both come back."""

import image
from content import BLOCK
from session import download, get, list_changed, upload, wait


def test_a_disk_goes_in_and_comes_back(ebs, ec2, tmp_path):
    original = image.build(tmp_path)
    before = image.blocks(original)
    assert len(before) > 20
    snapshot = upload(ebs, ec2, before, Description="whole disk")

    changed = image.change(original, tmp_path)
    after = image.blocks(changed)
    difference = image.difference(before, after)
    assert 0 < len(difference) < len(after)
    child = upload(ebs, ec2, difference, ParentSnapshotId=snapshot, Description="changes")

    # The service names exactly the blocks that differ, and reads both sides.
    tokens = list_changed(ebs, snapshot, child)
    assert sorted(tokens) == sorted(difference)
    for index, (old, new) in tokens.items():
        assert (old is not None) == (index in before)
        assert get(ebs, child, index, new) == difference[index]
        if old is not None:
            assert get(ebs, snapshot, index, old) == before[index]

    for source, original_image, name in [(snapshot, original, "first"), (child, changed, "second")]:
        restored = image.write(download(ebs, source), tmp_path / name)
        assert image.same(restored, original_image)
        image.check(restored)

    full = len(set(before) | set(difference)) * BLOCK
    assert wait(ec2, child)["FullSnapshotSizeInBytes"] == full

    # The child stands alone when its parent is gone.
    ec2.delete_snapshot(SnapshotId=snapshot)
    restored = image.write(download(ebs, child), tmp_path / "third")
    assert image.same(restored, changed)
    image.check(restored)
