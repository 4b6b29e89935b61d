"""What fits a schema, and what is said of what does not."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.mcp.profiles import load_profiles
from chimera.mcp.schemas import BadSchema, Misfit, Schema

POST = Schema(
    {
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]{1,19}$"},
            "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}},
            "size": {"$ref": "#/$defs/size"},
            "any": {},
        },
        "required": ["id"],
        "additionalProperties": False,
        "$defs": {"size": {"type": "number", "maximum": 5}},
    }
)


def said(arguments: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [each[:3] for each in POST.misfits(arguments)]


def endless() -> dict[str, Any]:
    deep: dict[str, Any] = {}
    deep["any"] = deep
    return deep


def test_what_fits_is_passed_without_a_word() -> None:
    assert POST.misfits({"id": "17", "tags": ["a", "éàü"], "size": 5, "any": [None, {"b": 1.5}]}) == []


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({}, ("$", "required", "id")),
        ({"id": "1", "b": 1, "a": 2}, ("$", "additionalProperties", "a, b")),
        ({"id": 1}, ("$.id", "type", '"string"')),
        ({"id": "1", "tags": ["a", "abcd"]}, ("$.tags[1]", "maxLength", "3")),
        ({"id": "1", "size": 6}, ("$.size", "maximum", "5")),
        ({"id": "1", "size": True}, ("$.size", "type", '"number"')),
    ],
)
def test_what_does_not_fit_is_named_with_place_and_rule(arguments: dict[str, Any], where: tuple[str, str, str]) -> None:
    assert where in said(arguments)


def test_an_end_of_line_behind_an_id_is_no_part_of_an_id() -> None:
    assert said({"id": "17\n"}) == [("$.id", "pattern", '"^[0-9]{1,19}$"')]


@pytest.mark.parametrize("value", ["\ud83d", {1: 2}, endless()], ids=["half a character", "a number as key", "no end"])
def test_what_cannot_be_written_as_json_is_refused_and_breaks_nothing(value: Any) -> None:
    [misfit] = POST.misfits({"id": value})
    assert isinstance(misfit, Misfit)
    assert (misfit.at, misfit.rule) == ("$", "json")


@pytest.mark.parametrize("there", ["http://127.0.0.1:9/schema.json", "file:///etc/hostname"])
def test_nothing_is_fetched_for_a_schema(there: str) -> None:
    with pytest.raises(BadSchema, match="nothing is fetched"):
        Schema({"properties": {"a": {"$ref": there}}})


@pytest.mark.parametrize("schema", [{"type": 7}, {"pattern": "("}, {"$ref": "#/$defs/none"}])
def test_what_is_no_schema_is_not_taken_for_one(schema: dict[str, Any]) -> None:
    with pytest.raises(BadSchema, match="no JSON Schema"):
        Schema(schema)


def test_every_pinned_schema_of_ours_can_be_used() -> None:
    profiles = load_profiles().by_name.values()
    assert {
        each.name: [tool for tool in each.tools if "no JSON Schema" in " ".join(each.problems(tool, {}))] for each in profiles
    } == {each.name: [] for each in profiles}
