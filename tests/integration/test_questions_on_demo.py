"""Every question has an answer on made-up data; those that are bound in time read only the parts that they need."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path

import orjson
import psycopg
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from chimera.cli.main import build
from chimera.projections import asking, demo, parts
from chimera.projections.asking import NotAnswered
from chimera.projections.questions import Question, ask, question, questions

PRUNED = {
    "engagement_metrics": question("late_observations").sql,
    "asset_events": "SELECT count(*) FROM analytics_v1.asset_events WHERE created_at >= now() - interval '7 days'",
}
"""Table -> what is asked of it, bound in time."""


@pytest.fixture(scope="module")
def made(postgres_dsn: str) -> str:
    database = f"demo_{uuid.uuid4().hex[:12]}"
    demo.make(postgres_dsn, database, demo.Size(posts=500, days=30, observations=4))
    return demo.address(postgres_dsn, database)


@pytest.mark.parametrize("asked", questions(), ids=lambda asked: asked.name)
def test_a_question_is_answered_with_the_columns_that_it_promises(made: str, asked: Question) -> None:
    answer = ask(made, asked)
    assert answer.columns == asked.returns
    assert answer.rows, "a sample question without a row shows nothing"


@pytest.mark.parametrize("table", PRUNED)
def test_a_question_bound_in_time_leaves_old_parts_unread(made: str, table: str) -> None:
    with psycopg.connect(made) as connection:
        every = {p.name for p in parts.parts(connection) if p.table == table}
        plan = connection.execute(b"EXPLAIN " + PRUNED[table].encode()).fetchall()
    read = {part for part in every if any(part in line for (line,) in plan)}
    assert read
    assert len(every) >= 5
    assert len(read) <= len(every) / 2 + 1, f"{sorted(read)} of {sorted(every)}"


@pytest.mark.parametrize("asked", questions(), ids=lambda asked: asked.name)
def test_a_question_that_reads_a_parted_table_is_bound_in_time(asked: Question) -> None:
    code = "\n".join(line for line in asked.sql.splitlines() if not line.startswith("--"))
    if any(f"analytics_v1.{table}" in code for table in parts.PARTED):
        assert "created_at >= now() - interval" in code
        assert asked.sql in PRUNED.values()


def test_money_ties_out(made: str) -> None:
    answer = ask(made, question("spend_tie_out"))
    assert [dict(zip(answer.columns, row, strict=True))["difference_usd"] for row in answer.rows] == [0, 0]


def test_what_a_post_gained_on_its_last_day_is_what_the_days_say(made: str) -> None:
    for column, metric in (("views_gained", "views"), ("watch_time_gained_s", "watch_time_s")):
        told = (
            f"SELECT count(*), count(*) FILTER (WHERE f.{column} = d.gained) FROM post_facts f JOIN ("
            " SELECT DISTINCT ON (agent_id, platform, platform_id) agent_id, platform, platform_id, gained FROM engagement_daily"
            f" WHERE metric = '{metric}' ORDER BY agent_id, platform, platform_id, day DESC) d"
            " USING (agent_id, platform, platform_id)"
        )
        with asking.asked(made, told, what="sql", timeout_s=60) as answer:
            [(posts, same)] = [row for batch in answer.batches for row in batch]
        assert posts == same > 400


def test_two_statements_writes_and_long_runs_are_refused_by_name(made: str) -> None:
    refused = {
        "SELECT 1; COMMIT; CREATE TABLE core.x ()": "multiple commands",
        "DELETE FROM core.agents": "questions change nothing",
        "WITH d AS (DELETE FROM core.agents RETURNING 1) SELECT * FROM d": "data-modifying",
        "SELECT pg_read_file('/etc/passwd')": "permission denied",
        "SELECT pg_sleep(60)": "took more than 0.2 s",
        "SELECT * FROM nowhere": "the views are in analytics_v1",
        "SELECT * FROM post_fact": r"did you mean post_facts\?",
        "SELECT agent,\n  agnt\nFROM agents": r"\"agnt\" does not exist \(line 2: agnt\); Perhaps you meant",
    }
    for text, why in refused.items():
        with pytest.raises(NotAnswered, match=why), asking.asked(made, text, what="sql", timeout_s=0.2) as answer:
            list(answer.batches)
    with psycopg.connect(made) as connection:
        assert connection.execute("SELECT count(*) > 0, to_regclass('core.x') IS NULL FROM core.agents").fetchone() == (True, True)


@pytest.mark.parametrize("limit", [0, 1, 1_999, 2_000, 2_001, 4_500])
def test_a_limit_is_kept_to_the_row(made: str, limit: int) -> None:
    text = "/* some words */ -- and more\n (SELECT n FROM generate_series(1, 4500) n ORDER BY n);"
    with asking.asked(made, text, what="sql", timeout_s=30, limit=limit) as answer:
        rows = [row[0] for batch in answer.batches for row in batch]
    assert rows == list(range(1, (limit or 4500) + 1))


@pytest.fixture
def chimera(made: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    monkeypatch.setenv("CHIMERA_POSTGRES", made)
    monkeypatch.setenv("CHIMERA_KAFKA", "unused:1")

    def run(*words: str, code: int = 0, given: str | None = None) -> str:
        done = CliRunner().invoke(build(["sql"]), ["sql", *words], input=given)
        assert done.exit_code == code, done.output
        return done.stdout

    return run


def test_sql_on_the_command_line(chimera: Callable[..., str], tmp_path: Path) -> None:
    count = "SELECT count(*) AS n FROM agents"
    assert orjson.loads(chimera("-c", count, "--json")) == [{"n": 10}]
    assert [line.strip() for line in chimera(given=count).splitlines()] == ["n", "10", "1 row"]
    few = chimera("-c", "SELECT agent, NULL AS x FROM agents ORDER BY agent", "--csv", "--limit", "1")
    assert few.splitlines() == ["agent,x", "demo0,"]
    file = tmp_path / "answer.parquet"
    joined = "SELECT agent, metric, day, value FROM engagement_metrics JOIN engagement_daily USING (agent, metric, value) LIMIT 25"
    assert "25 rows" in chimera("-c", joined, "--parquet", str(file))
    assert pq.read_table(file).schema.names == ["agent", "metric", "day", "value"]
    assert [p.name for p in tmp_path.iterdir()] == ["answer.parquet"]
    assert {v["view"] for v in orjson.loads(chimera("--views", "--json"))} >= {"posts", "post_facts"}
    assert "last observed" in chimera("--view", "post_facts")
    chimera("-c", count, "--json", "--csv", code=2)
    chimera("-c", " ", code=2)
    chimera("-f", str(tmp_path / "nothing.sql"), code=2)


def test_made_up_rows_never_take_the_place_of_real_ones(postgres_dsn: str, made: str, make_database: Callable[[], str]) -> None:
    real = make_database().rsplit("/", 1)[1].split("?")[0]
    with pytest.raises(demo.NotADemo, match="was not made by demo-data"):
        demo.make(postgres_dsn, real, demo.Size(posts=100))


def test_the_prompt_goes_on_after_an_error_and_leaves_when_told(
    made: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from chimera.cli import sql

    lines = iter(
        [
            "\\d hitl_queue",
            "\\d nothing",
            "SELECT nonsense;",
            "DELETE FROM posts;",
            "SELECT count(*) AS n",
            "FROM agents;",
            "\\q",
            "never",
        ]
    )
    monkeypatch.setattr("builtins.input", lambda prompt: next(lines))
    sql._prompt(made, 10, 30, None, True, False, "analytics_v1")
    said = capsys.readouterr()
    assert "how many wait" in said.out
    assert said.out.splitlines()[-2:] == ["n", "10"]
    for words in ("there is no view 'nothing'", '"nonsense" does not exist', 'cannot delete from view "posts"'):
        assert words in said.err
    assert next(lines) == "never"
