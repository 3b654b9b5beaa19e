"""What is one JSON object to every reader, and what is refused with which reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replenish.errors import EventFault
from replenish.ingest.strict_json import MAX_DEPTH, MAX_TEXT_BYTES, strict_object

REFUSED = [
    (b"", "not_json"),
    (b"[]", "not_json"),
    (b'"text"', "not_json"),
    (b"null", "not_json"),
    (b'{"a":NaN}', "not_json"),
    (b'{"a":Infinity}', "not_json"),
    (b'{"a":-Infinity}', "not_json"),
    (b'{"a":1,}', "not_json"),
    (b'{"a":01}', "not_json"),
    (b'{"a":.5}', "not_json"),
    (b'{"a":1.}', "not_json"),
    (b"{'a':1}", "not_json"),
    (b'{"a":1} {"a":1}', "not_json"),
    (b'{"a":1}x', "not_json"),
    (b'{"a":"\n"}', "not_json"),
    (b'{"a":"cut', "not_json"),
    (b'\xef\xbb\xbf{"a":1}', "not_json"),
    (b'{"a":"\xff"}', "wrong_encoding"),
    (b'{"a":"\xed\xa0\x80"}', "wrong_encoding"),
    (b'{"a":1e999}', "out_of_range"),
    (b'{"a":[1e999]}', "out_of_range"),
    (b'{"a":9223372036854775808}', "out_of_range"),
    (b'{"a":-9223372036854775809}', "out_of_range"),
    (b'{"a":123456789012345678901234567890}', "out_of_range"),
    (b'{"a":{"b":9223372036854775808}}', "out_of_range"),
    (b'{"a":[9223372036854775808]}', "out_of_range"),
    (b'{"a":1,"a":1}', "duplicate_key"),
    (b'{"a":1,"a" :2}', "duplicate_key"),
    (b'{"a":1,"a"\n\t\r :2}', "duplicate_key"),
    (b'{"a":1,"\\u0061":2}', "duplicate_key"),
    (b'{"a":{"b":1,"b":2}}', "duplicate_key"),
    (b'{"a":[{"b":1,"b":2}]}', "duplicate_key"),
    (b'{"a":"\\":","b":1,"b":2}', "duplicate_key"),
    (b'{"":1,"":2}', "duplicate_key"),
    (b'{"a":"\\u0000"}', "control_character"),
    (b'{"a":"\\u001f"}', "control_character"),
    (b'{"a":"\\b"}', "control_character"),
    (b'{"a":"\x7f"}', "control_character"),
    (b'{"\\u0000":1}', "control_character"),
    (b'{"a":["\\u0001"]}', "control_character"),
    (b'{"a":{"b":"\\u0001"}}', "control_character"),
    (b'{"a":"\\ud800"}', "lone_surrogate"),
    (b'{"a":"\\udc00"}', "lone_surrogate"),
    (b'{"a":"\\ud800","b":1}', "lone_surrogate"),
    (b'{"a":"\\ud800\\u0041"}', "lone_surrogate"),
    (b'{"a":"\\ud800 and more text"}', "lone_surrogate"),
    (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep"),
    (b'{"a":' * MAX_DEPTH + b"{}" + b"}" * MAX_DEPTH, "too_deep"),
    (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "too_deep"),
    (b"[" * 100_000, "not_json"),
    (b'{"a":"' + b"x" * (MAX_TEXT_BYTES + 1) + b'"}', "too_large"),
    (b'{"a":["' + "ü".encode() * (MAX_TEXT_BYTES // 2 + 1) + b'"]}', "too_large"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSED, ids=lambda v: repr(v)[:40])
def test_what_two_readers_could_take_differently_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(EventFault) as caught:
        strict_object(body)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b' {"a" : 1}\n',
        b'{"a":-0,"b":-0.0,"c":1.0,"d":1e-999}',
        b'{"a":9223372036854775807,"b":-9223372036854775808}',
        b'{"a":"\\ud83d\\ude00","b":"\\t\\r\\n\\"\\\\\\/"}',
        b'{"time":"12:00","a":":b","c":"\\":","d":"\\":\\":"}',
        b'{"a":{"b":1},"c":[{"b":1},{"b":2}]}',
        b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}",
        b'{"a":"' + b"x" * MAX_TEXT_BYTES + b'"}',
    ],
    ids=lambda v: repr(v)[:40],
)
def test_sound_objects_are_read_as_any_reader_does(body: bytes) -> None:
    assert strict_object(body) == json.loads(body)


_TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]))
_KEYS = st.sampled_from(["a", "b", '":', 'ä "'])
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)
_PAIRS = st.lists(st.tuples(st.sampled_from(["a", "b", "c", '"', ":", '":']), _VALUES), max_size=5)


@given(_PAIRS, st.sampled_from([":", " :", "\n : "]), st.booleans())
def test_an_object_is_refused_exactly_when_a_key_comes_twice(
    pairs: list[tuple[str, object]], colon: str, is_ascii: bool
) -> None:
    members = [
        f"{json.dumps(key, ensure_ascii=is_ascii)}{colon}{json.dumps(value, ensure_ascii=is_ascii)}"
        for key, value in pairs
    ]
    body = ("{" + ",".join(members) + "}").encode()
    keys = [key for key, _ in pairs]
    if len(set(keys)) == len(keys):
        assert strict_object(body) == dict(pairs)
    else:
        with pytest.raises(EventFault, match="duplicate_key"):
            strict_object(body)
