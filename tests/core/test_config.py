"""Strict configuration: every problem is named with its place and its remedy, all of them at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from aipo_lab.core.config import StrictModel, apply_override, merge, parse_override, read_yaml, suggest, validate
from aipo_lab.core.errors import UserError
from aipo_lab.core.origins import Origins


class Inner(StrictModel):
    size: int = Field(3, ge=1, le=10, description="size")
    rate: float = Field(0.5, description="rate")


class Outer(StrictModel):
    name: str = Field(description="name")
    inner: Inner = Field(default_factory=Inner, description="inner")
    perhaps: Inner | None = Field(None, description="perhaps")
    many: dict[str, Inner] = Field(default_factory=dict, description="many")


def problems_of(values: dict[str, object]) -> str:
    with pytest.raises(UserError) as caught:
        validate(Outer, values, "the test")
    return str(caught.value)


@pytest.mark.parametrize("place", ["inner", "perhaps"])
def test_an_unknown_key_names_its_place_the_nearest_and_all_valid_keys(place: str) -> None:
    text = problems_of({"name": "x", place: {"sise": 3}})
    assert f"{place}.sise: unknown key 'sise'" in text
    assert "did you mean 'size'?" in text
    assert "valid: rate, size" in text


def test_an_unknown_key_at_the_top_lists_the_sections() -> None:
    assert "valid: inner, many, name, perhaps" in problems_of({"name": "x", "iner": {}})


def test_all_problems_come_in_one_message() -> None:
    text = problems_of({"inner": {"size": 11, "rate": "fast", "colour": 1}})
    assert text.startswith("the test is not valid:\n")
    assert "name: required, but not given" in text
    assert "inner.size: Input should be less than or equal to 10 (got 11)" in text
    assert "inner.rate" in text and "'fast'" in text
    assert "inner.colour: unknown key" in text
    assert len(text.splitlines()) == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float) -> None:
    assert "inner.rate" in problems_of({"name": "x", "inner": {"rate": value}})


def test_a_valid_model_is_frozen() -> None:
    model = validate(Outer, {"name": "x"}, "the test")
    with pytest.raises(ValueError, match="frozen"):
        model.name = "y"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b=1", ("a.b", 1)),
        ("a=0.5", ("a", 0.5)),
        ("a=[1, 2]", ("a", [1, 2])),
        ("a=text", ("a", "text")),
        ("a=x=y", ("a", "x=y")),
        ("a=", ("a", None)),
        (" a.b =true", ("a.b", True)),
    ],
)
def test_overrides_are_dotted_keys_and_yaml_values(text: str, expected: tuple[str, object]) -> None:
    assert parse_override(text) == expected


def test_a_number_in_scientific_notation_is_a_number() -> None:
    assert parse_override("train.learning_rate=3e-4") == ("train.learning_rate", 3e-4)


@pytest.mark.parametrize("text", ["a.b", "=1", " =1", "a..b=1", ".a=1", "a.=1", "a=[1,"])
def test_an_override_that_is_none_is_refused_by_name(text: str) -> None:
    with pytest.raises(UserError, match="--set") as caught:
        parse_override(text)
    assert repr(text) in str(caught.value)


@given(st.text(max_size=30))
def test_parsing_an_override_gives_a_pair_or_a_user_error(text: str) -> None:
    try:
        dotted, _ = parse_override(text)
    except UserError:
        return
    assert dotted and "" not in dotted.split(".")


def test_an_override_reaches_into_sections_and_makes_missing_ones() -> None:
    values = {"a": {"b": 1, "c": 2}}
    apply_override(values, "a.b", 3)
    apply_override(values, "d.e.f", 4)
    assert values == {"a": {"b": 3, "c": 2}, "d": {"e": {"f": 4}}}


def test_an_override_through_a_value_is_refused() -> None:
    with pytest.raises(UserError, match=r"cannot set a\.b\.c: b is a value"):
        apply_override({"a": {"b": 1}}, "a.b.c", 2)


def test_an_override_of_a_section_by_a_value_names_its_keys() -> None:
    with pytest.raises(UserError, match=r"it is a section; set one of a\.b, a\.c"):
        apply_override({"a": {"b": 1, "c": 2}}, "a", 5)


def test_an_override_of_a_section_by_a_section_keeps_what_it_does_not_name() -> None:
    values = {"train": {"batch_size": 32, "learning_rate": 3e-4}}
    apply_override(values, "train", {"batch_size": 8})
    assert values == {"train": {"batch_size": 8, "learning_rate": 3e-4}}


def test_merge_goes_section_by_section_and_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    changes = {"a": {"c": {"f": 4}}, "e": {"g": 5}}
    assert merge(base, changes) == {"a": {"b": 1, "c": {"d": 2, "f": 4}}, "e": {"g": 5}}
    assert base == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


trees = st.recursive(
    st.integers(), lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=8
).filter(lambda tree: isinstance(tree, dict))


@given(trees, trees)
def test_after_a_merge_every_change_is_in_place(base: dict, changes: dict) -> None:
    merged = merge(base, changes)
    assert merge(merged, changes) == merged
    assert merge(base, {}) == base
    assert merged.keys() == base.keys() | changes.keys()


def test_reading_yaml_names_what_is_wrong_with_the_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sweep file not found: .*none\.yaml"):
        read_yaml(tmp_path / "none.yaml", "sweep file")
    with pytest.raises(UserError, match="is not a file"):
        read_yaml(tmp_path, "sweep file")
    for content, message in (
        (b"a: [1,", "not valid YAML"),
        (b"\xff\xfe\x00a", "not valid YAML"),
        (b"- 1\n- 2\n", "must hold a mapping of keys to values, not list"),
        (b"", "must hold a mapping"),
        (b"!!python/object/apply:os.system ['true']", "not valid YAML"),
    ):
        path = tmp_path / "broken.yaml"
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            read_yaml(path, "sweep file")


def test_a_suggestion_offers_a_near_name_only() -> None:
    assert suggest("simpoo", ["dpo", "simpo"]) == "did you mean 'simpo'? valid: dpo, simpo"
    assert suggest("xyz", ["dpo", "simpo"]) == "valid: dpo, simpo"


class Sizes(StrictModel):
    n: int = Field(1, description="n")
    rate: float | None = Field(None, description="rate")
    several: list[int] = Field(default_factory=list, description="several")
    switch: bool = Field(False, description="switch")
    switches: list[bool] = Field(default_factory=list, description="switches")
    anything: dict[str, object] = Field(default_factory=dict, description="anything")


@pytest.mark.parametrize(("key", "value"), [("n", True), ("rate", False), ("several", [1, True])])
def test_a_truth_value_is_no_number(key: str, value: object) -> None:
    with pytest.raises(UserError, match=rf"{key}.*: Input should be a valid .*truth values"):
        validate(Sizes, {key: value}, "the test")


def test_a_truth_value_is_taken_where_it_is_meant() -> None:
    sizes = validate(Sizes, {"switch": True, "switches": [True], "anything": {"a": [True]}}, "the test")
    assert (sizes.switch, sizes.switches, sizes.anything) == (True, [True], {"a": [True]})


def test_where_a_value_was_written_is_in_front_of_what_is_wrong_with_it() -> None:
    origins = Origins({("inner",): "line 2", ("inner", "size"): "--set 'inner.size=11'"})
    with pytest.raises(UserError) as caught:
        validate(Outer, {"name": 1, "inner": {"size": 11, "rate": "x"}}, "the test", origins)
    text = str(caught.value)
    assert "  - --set 'inner.size=11': inner.size: " in text
    assert "  - line 2: inner.rate: " in text
    assert "  - name: Input should be a valid string; put it in quotes (got 1)" in text


def test_a_problem_of_a_section_blames_the_innermost_setting_it_names() -> None:
    places = {("rank", "judge"): "line 3", ("rank", "judge", "model"): "line 4", ("rank", "judge", "models"): "line 5"}
    origins = Origins(places)
    assert origins.blame(("rank",), "judge.model is not known") == "line 4: judge.model is not known"
    assert origins.blame(("rank",), "judge.models and judge contradict") == "line 5: judge.models and judge contradict"
    assert origins.blame(("rank",), "the judge is not here") == "line 3: the judge is not here"
    assert origins.blame(("rank",), "misjudged") == "misjudged"
    origins = Origins({("rank", "sign"): "line 6", **places})
    assert origins.blame(("rank",), "sign and judge.model contradict") == "line 4: sign and judge.model contradict"


def test_choosing_something_else_drops_the_settings_of_what_was_there() -> None:
    pairrm = {"rank": {"ranker": "pairrm", "batch_size": 8}}
    assert merge(pairrm, {"rank": {"ranker": "length", "sign": 1}}) == {"rank": {"ranker": "length", "sign": 1}}
    same = {"rank": {"ranker": "pairrm", "batch_size": 4}}
    assert merge(pairrm, same) == same
    assert merge(pairrm, {"rank": {"batch_size": 4}}) == same
    default = {"rank": {"length_bias": 0.5}}  # of the proxy
    assert merge(default, {"rank": {"ranker": "proxy"}}) == {"rank": {"length_bias": 0.5, "ranker": "proxy"}}
    assert merge(default, {"rank": {"ranker": "length"}}) == {"rank": {"ranker": "length"}}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        read_yaml(Path("x" * 5000), "sweep file")
    path = tmp_path / "secret.yaml"
    path.write_text("a: 1")
    path.chmod(0)
    if not os.access(path, os.R_OK):  # root may read everything
        with pytest.raises(UserError, match="cannot be read: Permission denied"):
            read_yaml(path, "sweep file")
