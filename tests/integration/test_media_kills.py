"""A media store that dies in the middle of a file: nothing half-written is named, the swarm goes on, and says where it is stuck."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from chimera.events import records as rec
from chimera.observe import doctor
from chimera.policy.boardkit import load_text
from chimera.settings import Settings
from tests.objectstore import BUCKET, S3Server, killable_s3_server
from tests.studiohouse import AVA, EXAMPLES, StudioHouse, brief_with, run

MB = 1024 * 1024


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    with killable_s3_server(tmp_path / "server") as started:
        for name, value in started.environ.items():
            monkeypatch.setenv(name, value)
        yield started


class Dying(StudioHouse):
    """A studio house whose media server is killed while the first file is on its way."""

    server: S3Server
    killed = False

    def _fetch(self, url: str, origin: str | None) -> AsyncIterator[bytes]:
        return self._dying(super()._fetch(url, origin))

    async def _dying(self, file: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in file:
            yield chunk
        for n in range(20):  # what stands behind a picture's end is not looked at, and makes it long enough to be cut in two
            if n == 10 and not self.killed:
                self.server.kill()
                self.killed = True
            yield bytes(MB)


def named(house: StudioHouse) -> list[str]:
    """Every file that a record names."""
    return [name for end in house.of(rec.EffectEnded) for name in end.assets]


def asked(where: str, home: Path) -> tuple[str, str]:
    """(level, words) of what the doctor finds of media."""
    [found] = [each for each in doctor.examine(Settings(home=home, media=where)) if each.where == where]
    return found.level, found.what


def test_an_s3_server_that_is_killed_in_the_middle_of_a_file_costs_time_and_nothing_else(server: S3Server, tmp_path: Path) -> None:
    where, home = f"s3://{BUCKET}/{tmp_path.name}", tmp_path / "home"
    house = Dying(home, {"image": "midjourney"}, media=where)
    house.server = server
    pictures = brief_with("image")
    words = pictures.formats[0].model_copy(update={"platform": "x", "media": None})
    both = pictures.model_copy(update={"formats": [*pictures.formats, words]})
    house.enrol(AVA, load_text(EXAMPLES / "souls/ava.md"), both, "ava")
    assert house.add(AVA, rec.AccountLinked(command_no=6, platform="instagram", account="ava.cooks"), "dee").outcome == "applied"
    assert asked(where, home) == ("fine", "the media store answers")

    async def story() -> None:
        await house.live(2)
        assert house.killed
        assert named(house) == [], "no record names what is not there"
        assert len(house.x.timeline.posts("ava")) == 1, "texts go on"
        level, said = asked(where, home)
        assert (level, said.startswith(f"the media store {where} did not answer")) == ("problem", True)
        server.start()
        await house.live()
        assert not house.agents[AVA].campaigns, "the campaign is complete"
        store = house.gate.files.store
        assert {asset.name for asset in store.assets()} == set(named(house)) != set()
        assert await store.verify() == (len(set(named(house))), [])
        assert list(store.left_over()) == []

    run(house, story)
    assert asked(where, home)[0] == "fine"
    assert (len(house.books["midjourney"].jobs()), len(house.gram.posts("ava.cooks"))) == (1, 1), "ordered, paid and shown once"
