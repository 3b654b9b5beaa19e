"""Strict YAML: what people mean is what is read, and mistakes name their place."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from replenish.contracts.document import StrictLoader, YamlNode, read_yaml, yaml_text
from replenish.errors import ContractError


def _read(tmp_path: Path, text: str) -> YamlNode:
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path)


@pytest.mark.parametrize("text", ["no", "yes", "on", "12:30", "2025-01-01", "0x1F", "0o7", "1_000", "NO", "Null"])
def test_words_that_older_yaml_turns_into_something_else_stay_text(tmp_path: Path, text: str) -> None:
    assert _read(tmp_path, f"country: {text}\n").text("country") == text


def test_a_key_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"key 'units' is given twice"):
        _read(tmp_path, "units: qty\nunits: amount\n")


def test_an_unknown_key_names_file_place_and_the_nearest_known_key(tmp_path: Path) -> None:
    node = _read(tmp_path, "format:\n  seperator: ';'\n")
    part = node.child("format")
    part.text("separator", ",")
    with pytest.raises(
        ContractError, match=r"file\.yaml: format\.seperator: unknown key \(did you mean 'separator'\?\)"
    ):
        part.finish()


def test_a_number_is_not_taken_for_text_so_that_zeros_in_front_survive(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"value: must be text, is a number \(put it in quotes\)"):
        _read(tmp_path, "value: 007\n").text("value")


def test_a_flag_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="must be a whole number, is true/false"):
        _read(tmp_path, "n: true\n").integer("n")


@pytest.mark.parametrize("text", ["- a\n- b\n", "just words\n", ""])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContractError, match="must be a mapping"):
        _read(tmp_path, text)


@pytest.mark.parametrize("text", ["a: [1, 2\n", "a: !!python/object:os.system {}\n", "a: \x01\n"])
def test_what_is_no_plain_yaml_is_refused_with_the_file_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ContractError, match=r"file\.yaml: not readable as YAML"):
        _read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"nowhere\.yaml: no such file"):
        read_yaml(tmp_path / "nowhere.yaml")


_TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12) | st.sampled_from(
    ["1e5", "08", "no", "06:00", "~", "", "null", ".5", "2025-01-01", "=", "# x", "a #b", "- a"]
)


@settings(deadline=None)
@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), _TEXT | st.integers() | st.booleans(), max_size=4))
def test_what_is_written_is_read_back_as_the_same_values(value: dict[str, object]) -> None:
    # In memory: hypothesis and temporary folders do not mix.
    assert yaml.load(yaml_text(value), Loader=StrictLoader) == value
