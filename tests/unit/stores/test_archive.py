"""The archive holds what was offered, under its digest, and nothing that a dead attempt left."""

import hashlib
from pathlib import Path

from replenish.stores.archive import archive_file

CONTENT = b"a,b\n1,2\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def offered(tmp_path: Path) -> Path:
    path = tmp_path / "offered.csv"
    path.write_bytes(CONTENT)
    return path


def test_what_a_killed_attempt_left_goes(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    left = archive / SHA256[:2] / f"{SHA256}.1.tmp"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    assert archive_file(offered(tmp_path), SHA256, archive).read_bytes() == CONTENT
    assert [path.name for path in left.parent.iterdir()] == [SHA256]


def test_a_damaged_copy_is_replaced_by_a_sound_one(tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    there = archive_file(offered(tmp_path), SHA256, archive)
    there.write_bytes(b"A,b\n1,2\n")
    assert archive_file(offered(tmp_path), SHA256, archive) == there
    assert there.read_bytes() == CONTENT
