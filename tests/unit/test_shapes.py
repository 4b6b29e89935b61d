"""Who is refused for a name, a number or a hash is told in words what is allowed, wherever it was written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from chimera.cli import main
from chimera.commands import fleet, sheet, verbs
from chimera.control.api import models
from chimera.eventlog import topics
from chimera.mcp import quotes, spec
from chimera.policy import brief
from chimera.policy.documents import DocumentError
from chimera.shapes import Shaped

ROOT = Path(__file__).parents[2]


def told(where: Any, **given: object) -> dict[str, str]:
    """What is said of each field."""
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(where).validate_python(given)
    return {str(each["loc"][0]): each["msg"] for each in caught.value.errors()}


def test_a_tenant_of_a_bad_name_is_refused_with_what_a_good_one_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["tenant", "create", "bad name"])
    said = " ".join(capsys.readouterr().err.split())
    assert "tenant: write it with letters, digits, '.', '_' and '-', as in acme-eu" in said


def test_a_fleet_of_bad_names_is_refused_with_line_and_words(tmp_path: Path) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text("tenant: bad name\nagents:\n  - {name: '@ava', soul: ava.md}\n")
    with pytest.raises(DocumentError) as refused:
        fleet.load_fleet(file)
    assert "line 1, field 'tenant': write it with letters, digits, '.', '_' and '-', as in acme-eu" in str(refused.value)
    assert "write up to 64 signs without blanks, / and #, and no @ before it, as in ava" in str(refused.value)


@pytest.mark.parametrize(
    ("where", "field", "given", "says"),
    [
        (verbs.AccountLink, "platform", "my x", "as in x"),
        (verbs.AccountLink, "secret_ref", "hunter2", "write env:NAME, file:PATH or command:WORDS"),
        (verbs.AccountLink, "actor", " kim", "as in kim"),
        (verbs.PrivacyForget, "subject", "x/mallory", "write person/<32 hex digits>"),
        (sheet.Line, "effect", "abc", "its first 8 hex digits or more"),
        (brief.Transfer, "asset", "usd coin", "as in USDC"),
        (brief.Transfer, "amount", "1,5", "as in 12.50"),
        (quotes.Asset, "symbol", "usd coin", "as in USDC"),
        (topics.TopicSpec, "name", "my topic", "as in chimera.log"),
        (topics.TopicSpec, "name", "x" * 250, "as in chimera.log"),
        (spec.ProfileFile, "name", "Tavily", "as in tavily"),
        (models.Turn, "scope", "a\nb", "in one line"),
        (models.Turn, "reason", "", "write 1 to 500 signs"),
        (models.Shown, "shown_hash", "ABC", "64 hex digits"),
    ],
)
def test_what_is_refused_is_told_in_words(where: Any, field: str, given: str, says: str) -> None:
    assert says in told(where, **{field: given})[field]


def test_a_shape_says_to_programs_what_a_pattern_says() -> None:
    class Plain(BaseModel):
        name: str = Field(pattern=r"^[a-z]+$", min_length=1, max_length=9)

    class Told(BaseModel):
        name: Annotated[str, Shaped(r"^[a-z]+$", "write it with small letters", 1, 9)]

    assert Told.model_json_schema()["properties"] == Plain.model_json_schema()["properties"]


def test_no_model_that_people_fill_in_has_a_pattern_without_words() -> None:
    """Records (`chimera/events`) are written by programs."""
    files = [path for path in (ROOT / "chimera").rglob("*.py") if "events" not in path.relative_to(ROOT).parts]
    found = [f"{path}: {line}" for path in files for line in path.read_text().splitlines() if re.search(r"Field\(.*pattern=", line)]
    assert [each for each in found if "shapes.py" not in each] == []
