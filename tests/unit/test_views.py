"""What analysts are promised: every view is described, guarded, and changes only under a new version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from chimera.projections import dictionary
from chimera.projections.questions import questions
from chimera.projections.views import ANALYTICS, GUARD, BadView, View, read, views

ALL = views()
DOCS = Path(__file__).parents[2] / "docs"
PROMISED = {
    "agents", "campaigns", "tasks", "artifacts", "verdicts", "judge_calibration", "reviews", "decisions", "commits", "rejections",
    "voids", "effects", "posts", "post_facts", "assets", "asset_lineage", "asset_events", "asset_provenance", "publishing_state",
    "engagement_metrics", "engagement_daily", "engagement_growth", "asset_facts", "asset_daily",
    "spend", "transactions", "tool_calls", "security_events", "policies", "events", "task_queue",
    "review_queue", "hitl_queue", "freshness", "ledger", "ledger_balance", "budgets", "signals", "stale_rate", "retries",
    "accounts",
}  # fmt: skip


def the(name: str) -> View:
    return next(view for view in ALL if view.name == name)


def test_every_promised_view_is_there() -> None:
    assert {view.name for view in ALL} >= PROMISED


@pytest.mark.parametrize("view", ALL, ids=lambda view: view.name)
def test_a_view_says_whose_rows_it_shows_and_where_each_comes_from(view: View) -> None:
    names = [column.name for column in view.columns]
    assert {"topic", "partition", "offset"} <= set(names)
    assert all(len(column.meaning) > 3 for column in view.columns)
    if view.scope == "tenant":
        assert view.defined().endswith(GUARD)
        assert "tenant" in names
    else:
        assert view.name == "freshness", "a view without a guard shows nothing that belongs to a tenant"
    known = {other.name: {column.name for column in other.columns} for other in ALL}
    for reference in view.refers_to:
        assert reference.view in known
        assert set(reference.columns) <= set(names)


@pytest.mark.parametrize("name", dictionary.pages(ALL))
def test_the_pages_are_what_the_views_say(name: str) -> None:
    assert (DOCS / "analysts" / name).read_text(encoding="utf-8") == dictionary.pages(ALL)[name], "run `make docs`"


@pytest.mark.parametrize("change", [{"name": "colour"}, {"type": "integer"}, {"meaning": "something else"}])
def test_a_changed_name_type_or_meaning_breaks_the_contract(change: dict[str, str]) -> None:
    view = the("posts")
    changed = view._replace(columns=(view.columns[0]._replace(**change), *view.columns[1:]))
    lost = dictionary.broken(dictionary.contract([view]), dictionary.contract([changed]))
    assert len(lost) == 1
    assert "analytics_v1.posts.tenant" in lost[0]


def test_a_new_column_and_a_new_view_break_nothing_and_a_lost_view_does() -> None:
    view = the("posts")
    more = view._replace(columns=(*view.columns, view.columns[0]._replace(name="colour")))
    assert dictionary.broken(dictionary.contract([view]), dictionary.contract([more, the("agents")])) == []
    assert dictionary.broken(dictionary.contract([view]), {}) == ["analytics_v1.posts is gone"]


def test_a_new_version_lives_beside_the_old_one() -> None:
    view = the("posts")
    promised = dictionary.contract([view])
    new = view._replace(schema="analytics_v2", columns=view.columns[1:])
    assert dictionary.broken(promised, dictionary.contract([view, new])) == []


def test_pages_that_would_break_the_contract_are_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dictionary.write(tmp_path)
    page = tmp_path / "analysts" / "views.md"
    page.write_text("as it was")
    monkeypatch.setattr(dictionary, "views", lambda: [the("agents")])
    with pytest.raises(dictionary.ContractBroken, match=r"analytics_v1.posts is gone.*analytics_v2"):
        dictionary.write(tmp_path)
    assert page.read_text() == "as it was"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("view: bad\n", "KeyError"),
        ("view: other\nschema: s\nrow: r\nabout: a\ncolumns: [{name: tenant, type: text, meaning: m}]\nsql: x\n", "called 'other'"),
        ("view: bad\nschema: s\nrow: r\nabout: a\ncolumns: [{name: a, type: text, meaning: m}]\nsql: x\n", "no column tenant"),
        (
            "view: bad\nschema: s\nrow: r\nabout: a\nscope: all\ncolumns: [{name: a, type: text, meaning: m}]\nsql: x\n",
            "scope is 'all'",
        ),
    ],
)
def test_a_file_that_does_not_say_enough_is_named(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(BadView, match=f"bad.yaml.*{said}"):
        read(tmp_path / "bad.yaml")


@pytest.mark.parametrize("asked", questions(), ids=lambda asked: asked.name)
def test_a_question_asks_the_views_alone_and_says_what_it_returns(asked) -> None:  # type: ignore[no-untyped-def]
    code = re.sub(r"--[^\n]*", "", asked.sql)
    assert re.search(r"\b(core|priv|access)\.", code) is None
    assert f"{ANALYTICS}." in code
    assert asked.question.endswith("?")
    assert asked.columns
    assert asked.returns


def test_there_are_enough_questions() -> None:
    assert len(questions()) >= 20
