"""The guide shows what works: its example is a feed file that the reader takes."""

import re
from datetime import date
from pathlib import Path

from replenish.contracts.dataset_reader import read_dataset
from replenish.contracts.reader import PLATFORM_FOLDER

GUIDE = PLATFORM_FOLDER.parent / "docs" / "feeds.md"


def test_the_example_of_the_guide_is_a_sound_feed_file(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    path = tmp_path / "example.feed.yaml"
    path.write_text(example.group(1), encoding="utf-8")
    dataset = read_dataset(path)
    assert dataset.origin == date(2025, 3, 1)
    assert [feed.stream for feed in dataset.feeds] == ["sales"]
