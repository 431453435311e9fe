"""YAML that says one thing is read as meant; all other is refused with its line."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from aipo_lab.core.yaml_text import YamlError, decode, dump_yaml, load_yaml, parse_yaml


def problems_of(text: str) -> list[str]:
    with pytest.raises(YamlError) as caught:
        parse_yaml(text)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0x10", 16),
        ("1_000", 1000),
        ("3e-4", 3e-4),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("0", 0),
        ("0.5", 0.5),
        ("2024-01-01", "2024-01-01"),  # a date stays the text that it is
        ("2024-01-01 12:00:00", "2024-01-01 12:00:00"),
        ("'010'", "010"),
        ("!!str 010", "010"),
        ("no", False),
        ("'no'", "no"),
        ("=", "="),
        ("~", None),
        ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
        ("{b: &x {c: 1}, d: {<<: *x, c: 2}}", {"b": {"c": 1}, "d": {"c": 2}}),
        ("{b: &x {c: 1}, d: {<<: [*x, {c: 3, f: 4}]}}", {"b": {"c": 1}, "d": {"c": 1, "f": 4}}),
    ],
)
def test_what_says_one_thing_is_read_so(text: str, value: Any) -> None:
    assert parse_yaml(text) == value


@pytest.mark.parametrize(
    "number",
    ["010", "011", "-07", "08", "00", "0_1", "0o17", "0O7", "0b101", "1:30", "-1:30:05", "1:30.5", "190:20:30"],
)
def test_numbers_that_two_readers_read_differently_are_refused_with_the_line(number: str) -> None:
    (problem,) = problems_of(f"a: 1\nb: [2, {number}]\n")
    assert problem.startswith(f"line 2: {number} is one number to some readers")
    assert f"'{number}' in quotes" in problem
    assert parse_yaml(f"b: '{number}'") == {"b": number}


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "the key 'a' is given twice, first on line 1"),
        ("x:\n  a: 1\n  a: 3\n", 3, "the key 'a' is given twice, first on line 2"),
        ("- {a: 1, 'a': 2}\n", 1, "the key 'a' is given twice"),
        ("d: &d {a: 1}\nx: {<<: *d, <<: *d}\n", 2, "the key '<<' is given twice"),
        ("d: &d {a: 1, a: 2}\nx: {<<: *d}\n", 1, "the key 'a' is given twice"),
        ("x: {<<: 5}\n", 1, "<< takes a mapping"),
        ("1: a\n", 1, "1 is read as a number"),
        ("x: 1\non: a\n", 2, "on is read as a truth value"),
        ("null: a\n", 1, "null is read as nothing"),
        ("? [a, b]\n: c\n", 1, "a key must be text"),
        ("a: !!python/object/apply:os.system ['true']", 1, "the tag !!python/object/apply:os.system is not supported"),
        ("a: !!set {b}", 1, "the tag !!set is not supported"),
        ("a: !!binary aGVsbG8=", 1, "the tag !!binary"),
        ("a: !mine 3", 1, "the tag !mine"),
        ("a: !!int abc", 1, "abc is not a number"),
        ('a: !!int "010"', 1, "010 is one number"),
        (f"a: {'9' * 5000}", 1, "is not a number"),
        ("a: 1\n---\nb: 2\n", 2, "expected a single document"),
        ("a:\n\tb: 1\n", 2, "indent with spaces"),
        ("a: 1\nb: 'c\n", 3, "unexpected end of stream"),
        ("a: *b\n", 1, "undefined alias 'b'"),
        ("a: &a [*a]\n", 1, "holds itself"),
        ("a: 1\nb: \x00\n", 2, "U+0000"),
        ("a:\n  b: " + "[" * 5000, 2, "nested more than 64 deep"),
    ],
)
def test_what_says_no_one_thing_is_refused_with_the_line(text: str, line: int, said: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(f"line {line}"), problem
    assert said in problem


def test_all_problems_of_a_document_come_at_once() -> None:
    assert [problem.split(":")[0] for problem in problems_of("a: 010\na: 2\nb: {1: 1:30}\n")] == [
        "line 1",
        "line 2",
        "line 3",
    ]


def test_aliases_that_grow_without_end_are_refused_quickly() -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{n}: &a{n} {{k: [{', '.join([f'*a{n - 1}'] * 10)}]}}" for n in range(1, 12)]
    assert "more than 100000 values" in problems_of("\n".join(lines))[0]
    product = ["a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", f"b: &b [{', '.join(['*a'] * 100)}]"]
    assert load_yaml("\n".join(product)).value["b"][99] == [1] * 10
    assert "more than 100000 values" in problems_of("\n".join([*product, f"c: [{', '.join(['*b'] * 100)}]"]))[0]
    chain = ["a0: &a0 1"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 3000)]
    assert "more than 64 levels" in problems_of("\n".join(chain))[0]


def test_the_line_of_every_key_and_item_is_known() -> None:
    document = load_yaml("a: 1\nb:\n  - c: 2\n  -\n    d: 3\n")
    assert [document.line(path) for path in [("a",), ("b", 0, "c"), ("b", 1, "d"), ("b", 1, "unknown")]] == [1, 3, 5, 5]
    assert document.line(("unknown",)) is None


def test_files_are_utf_8_with_or_without_a_mark() -> None:
    assert decode("\ufeffgröße: 1".encode()) == decode("größe: 1".encode()) == "größe: 1"
    for content, said in (
        ("a: 1\nb: ö\n".encode("latin-1"), "line 2: the byte 0xf6 is not UTF-8"),
        ("a: 1\n".encode("utf-16"), "UTF-16"),
    ):
        with pytest.raises(YamlError, match=said):
            decode(content)
    assert "UTF-16" in problems_of(decode("a: 1\n".encode("utf-16-le")))[0]


texts = st.one_of(
    st.text(max_size=12),
    st.from_regex(r"[-+]?[0-9_:.eExXoObB-]{1,8}", fullmatch=True),
    st.sampled_from(["no", "on", "null", "~", "=", "<<", "2024-01-01", "1:30", "0o17", "3e-4", "010"]),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)


@example("\x85")
@example({"a\x85b": ["\u2028 ", "c\u2029"]})
@given(values)
def test_what_is_written_reads_back_equal(value: Any) -> None:
    read = parse_yaml(dump_yaml(value))
    assert read == value
    assert repr(read) == repr(value)


@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!'\"\n\t 01,<#|>%@?~.\x00"), max_size=40))
def test_any_text_is_a_value_or_an_error_with_problems(text: str) -> None:
    with contextlib.suppress(YamlError):
        parse_yaml(text)
