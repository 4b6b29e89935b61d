"""`chimera media` on a real store and real read models: what is wrong is named, what goes was nobody's, what is copied is whole."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from typer.testing import CliRunner

from chimera.cli import media
from chimera.cli.main import build
from chimera.mcp.sandbox.art import film, picture
from chimera.media.lifecycle import Standing
from chimera.media.store import Asset, MediaStore, path_of
from chimera.projections import demo, read
from chimera.projections.media import standings
from chimera.stack.addresses import Addresses


@pytest.fixture(scope="module")
def rows(postgres_dsn: str) -> Iterator[str]:
    """Made-up read models with assets."""
    name = f"demo_{uuid.uuid4().hex[:12]}"
    demo.make(postgres_dsn, name, demo.Size(posts=30, days=5, observations=1))
    yield demo.address(postgres_dsn, name)
    with psycopg.connect(postgres_dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


class Shop:
    """A home with a media store and the verbs over it."""

    def __init__(self, home: Path) -> None:
        self.store = MediaStore(home / "media")
        self.home = home

    def put(self, body: bytes) -> Asset:
        async def chunks() -> AsyncIterator[bytes]:
            yield body

        return asyncio.run(self.store.put(chunks()))

    def file(self, asset: Asset) -> Path:
        return self.home / "media" / path_of(asset.name)

    def run(self, *argv: str, exit_code: int = 0) -> Any:
        result = CliRunner().invoke(build(["media"]), ["media", *argv, "--json"])
        assert result.exit_code == exit_code, result.output
        return orjson.loads(result.stdout)


@pytest.fixture
def shop(tmp_path: Path, rows: str, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    monkeypatch.setattr(media, "load", lambda settings: Addresses(kafka="none", postgres=rows, mcp={}))
    monkeypatch.setattr(read, "lag", lambda dsn, kafka: {0: 0})
    return Shop(tmp_path)


def test_standing_follows_effects_and_takedowns(rows: str) -> None:
    with psycopg.connect(rows) as connection:
        (sha256, agent, campaign, ordinal, attempt) = connection.execute(
            "SELECT u.sha256, u.agent_id, u.campaign, u.ordinal, u.attempt FROM core.asset_uses u"
            " JOIN core.effects e USING (agent_id, campaign, ordinal, attempt)"
            " WHERE u.use = 'shown' AND e.status = 'executed' LIMIT 1"
        ).fetchone() or pytest.fail("the made-up rows show no asset")
        connection.execute("UPDATE core.campaigns SET status = 'completed'")
    assert standings(rows)[sha256].needed, "a post that stands shows it"
    with psycopg.connect(rows) as connection:
        connection.execute(
            "UPDATE core.effects SET status = 'refused' WHERE (agent_id, campaign, ordinal, attempt) = (%s, %s, %s, %s)",
            (agent, campaign, ordinal, attempt),
        )
    assert not standings(rows)[sha256].needed
    with psycopg.connect(rows) as connection:
        place, of = (agent, campaign, ordinal, attempt), "WHERE (agent_id, campaign, ordinal, attempt) = (%s, %s, %s, %s)"
        connection.execute(f"UPDATE core.effects SET status = 'people' {of}".encode(), place)
    assert standings(rows)[sha256].needed, "a card that waits names it"
    with psycopg.connect(rows) as connection:
        connection.execute(f"UPDATE core.effects SET status = 'refused' {of}".encode(), place)
    with psycopg.connect(rows) as connection:
        connection.execute("UPDATE core.campaigns SET status = 'running' WHERE (agent_id, campaign) = (%s, %s)", (agent, campaign))
    assert standings(rows)[sha256].needed, "its campaign is open"


def test_verify_names_damage_and_what_records_tell_of_and_is_not_there(shop: Shop) -> None:
    sound, flipped = shop.put(picture("a pot of soup")), shop.put(picture("a pan"))
    shop.file(flipped).write_bytes(shop.file(flipped).read_bytes()[:-1] + b"x")
    told = shop.run("verify", exit_code=1)
    assert told["sound"] == 1
    assert [each["name"] for each in told["damaged"]] == [flipped.name]
    assert len(told["missing"]) > 0
    assert sound.sha256 not in told["missing"]


def test_show_tells_pixels_and_length(shop: Shop) -> None:
    still, moving = shop.put(picture("a pot", "16:9")), shop.put(film("a walk", 2))
    assert {k: v for k, v in shop.run("show", still.sha256[:12]).items() if k in ("width", "height", "codec")} == {
        "width": 1024, "height": 576, "codec": "png",
    }  # fmt: skip
    told = shop.run("show", moving.sha256)
    assert (told["codec"], told["duration_s"], told["frames_per_s"], told["sound"]) == ("h264", 2.0, 8.0, "")
    assert shop.run("stats")["types"]["video/mp4"]["files"] == 1


def test_export_copies_what_is_whole_and_goes_on_where_it_was_cut(shop: Shop, tmp_path: Path) -> None:
    first, second = shop.put(picture("one")), shop.put(picture("two"))
    out = tmp_path / "out"
    assert shop.run("export", "--out", str(out))["copied"] == 2
    (out / first.name).unlink()
    assert shop.run("export", "--out", str(out)) == {"out": str(out), "files": 2, "copied": 1}
    assert sorted(path.name for path in out.iterdir()) == sorted([first.name, second.name, "media.jsonl"])
    lines = [orjson.loads(line) for line in (out / "media.jsonl").read_bytes().splitlines()]
    assert {line["sha256"] for line in lines} == {first.sha256, second.sha256}


def test_gc_lets_go_what_nobody_names_after_a_dry_run_that_changed_nothing(shop: Shop) -> None:
    old, fresh = shop.put(picture("old")), shop.put(picture("fresh"))
    long_ago = time.time() - 9 * 86_400
    os.utime(shop.file(old), (long_ago, long_ago))
    part = shop.home / "media" / "arriving" / "half"
    part.parent.mkdir(exist_ok=True)
    part.write_bytes(b"half")
    os.utime(part, (long_ago, long_ago))
    dry = shop.run("gc", "--dry-run")
    assert [each["name"] for each in dry["files"]] == [old.name, "arriving/half"]
    assert shop.file(old).exists()
    assert part.exists()
    shop.run("gc", "--yes")
    assert not shop.file(old).exists()
    assert not part.exists()
    assert shop.file(fresh).exists()
    assert asyncio.run(shop.store.gone())[old.sha256].startswith("no record names it")


def test_gc_asks_once_more_after_somebody_said_yes_and_leaves_what_a_record_names_by_then(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    named, old = shop.put(picture("named")), shop.put(picture("old"))
    long_ago = time.time() - 9 * 86_400
    for each in (named, old):
        os.utime(shop.file(each), (long_ago, long_ago))
    card = {named.sha256: Standing(frozenset({"final"}), datetime.now(UTC), needed=True)}
    known = iter([{}, card])
    monkeypatch.setattr(media, "standings", lambda dsn: next(known))
    result = CliRunner().invoke(build(["media"]), ["media", "gc"], input="y\n")
    assert result.exit_code == 0, result.output
    assert (shop.file(named).exists(), shop.file(old).exists()) == (True, False)


def test_gc_waits_for_read_models_that_are_behind(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "lag", lambda dsn, kafka: {0: 3, 1: 4})
    result = CliRunner().invoke(build(["media"]), ["media", "gc", "--dry-run"])
    assert "the read models are 7 records behind the log" in str(result.exception)
