"""What people get wrong: a clear sentence with the way out, an exit code, nothing appended, and everybody else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.e2e.house import House, Typed, accounts

GOOD_FEED = """<rss version="2.0"><channel><title>t</title><link>https://t.example/</link><description>d</description>
<item><title>Soup in season</title><link>https://t.example/soup</link><description>A pot of squash soup feeds four people
for six dollars if you cook what is in season in autumn. Roast the squash for forty minutes first.</description></item>
<item><title>Mending</title><link>https://t.example/mend</link><description>Mending a wool coat takes twenty minutes and
thirty cents of yarn, and a short walk every day in autumn is enough to begin.</description></item>
</channel></rss>"""


@pytest.fixture(scope="module")
def names(house: House) -> list[str]:
    return house.enrol("bad", 2)


def refused(house: House, *words: str | Path) -> Typed:
    """A command that must fail without appending anything. (Agents of other tests work on meanwhile.)"""
    house.service.catch_up()
    before = len(house.by_people())
    typed = house.shell(*words)
    house.service.catch_up()
    assert len(house.by_people()) == before, "a refused command appended a record"
    assert "Traceback" not in typed.out
    assert typed.code in (1, 2, 3)
    return typed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: [", "line 1"),
        ("name: x\ngoal: people cook soup\nformats: []\n", "field 'audience': is missing"),
        ("\x00\x01\x02", "brief.yaml"),
        ("", "brief.yaml"),
    ],
)
def test_an_unreadable_brief_is_named_with_its_place(house: House, names: list[str], tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "brief.yaml"
    path.write_text(text)
    typed = refused(house, "campaign", "start", "-f", path, "--agents", names[0])
    assert typed.code == 1
    assert "brief.yaml" in typed.out
    assert says in typed.out


def test_a_brief_that_is_not_there_is_said_so(house: House, names: list[str], tmp_path: Path) -> None:
    typed = refused(house, "campaign", "start", "-f", tmp_path / "nowhere.yaml", "--agents", names[0])
    assert "nowhere.yaml" in typed.out


def test_a_feed_that_is_not_there_is_named_before_anything_starts(house: House, names: list[str]) -> None:
    brief = house.brief("Missing feed", 1, feeds=["/nowhere/feed.xml"])
    typed = refused(house, "campaign", "start", "-f", brief, "--agents", names[0])
    assert typed.code == 1
    assert "/nowhere/feed.xml" in typed.out


def test_an_unknown_agent_is_named_with_the_nearest_known_one(house: House, names: list[str]) -> None:
    typed = refused(house, "agent", "pause", "bad00")
    assert typed.code == 1
    assert "no agent is called 'bad00'" in typed.out
    assert "bad0" in typed.out.split("'bad00'", 1)[1]
    assert refused(house, "campaign", "start", "-f", house.brief("Nobody", 1), "--agents", "nobody").code == 1


def test_unknown_campaigns_cards_and_role_sets_are_said_so(house: House, names: list[str]) -> None:
    assert "no campaign is called 'winter'" in refused(house, "campaign", "show", "winter").out
    assert "is no card" in refused(house, "review", "approve", "what", "--as", "kim").out
    assert "has no campaign 9" in refused(house, "review", "approve", f"{names[0]}/9.1.1", "--as", "kim").out
    assert "no role set 'brains'" in refused(house, "run", "brains").out


def test_enrolling_the_same_fleet_again_changes_nothing(house: House, names: list[str]) -> None:
    before = len(house.by_people())
    typed = house.shell("agent", "enrol", "-f", house.home / "files" / "bad" / "fleet.yaml")
    assert typed.code == 0, typed.out
    house.service.catch_up()
    assert len(house.by_people()) == before


def test_one_broken_agent_of_a_fleet_file_does_not_stop_the_others(house: House, names: list[str]) -> None:
    where = house.home / "files" / "bad"
    (where / "souls" / "broken.md").write_text("---\nname: [\n---\n")
    fleet = yaml.safe_load((where / "fleet.yaml").read_text())
    good = {"name": "bad-good", "soul": "souls/bad0.md", "accounts": {"x": "bad_good_x"}}
    twice = {"name": "bad-good", "soul": "souls/bad1.md", "accounts": {"x": "bad_twice_x"}}
    fleet["agents"] = [{"name": "bad-broken", "soul": "souls/broken.md"}, good, twice]
    (where / "mixed.yaml").write_text(yaml.safe_dump(fleet))
    typed = house.shell("agent", "enrol", "-f", where / "mixed.yaml")
    assert typed.code == 3
    assert "broken.md" in typed.out
    assert "'bad-good' is there already" in typed.out
    house.service.catch_up()
    known = {agent.name for agent in house.service.agents.values()}
    assert "bad-good" in known
    assert "bad-broken" not in known


def test_a_broken_feed_beside_a_good_one_is_named_and_the_campaign_goes_on(house: House, names: list[str], tmp_path: Path) -> None:
    (tmp_path / "broken.xml").write_text("<rss><channel><item>")
    (tmp_path / "good.xml").write_text(GOOD_FEED)
    feeds = [str(tmp_path / "broken.xml"), str(tmp_path / "good.xml")]
    house.start(house.brief("One broken feed", 1, feeds=feeds, acceptance=[]), names[:1])
    house.until_completed(names[:1])
    research = house.records("ArtifactProduced", names[:1])[0].record.data
    assert [broken["reason"].split(":")[0] for broken in research.content["broken_feeds"]] == ["broken_feed"]  # type: ignore[union-attr]
    assert research.content["articles"]  # type: ignore[union-attr]


def test_a_campaign_with_nothing_but_a_broken_feed_ends_with_the_reason_while_others_go_on(
    house: House, names: list[str], tmp_path: Path
) -> None:
    (tmp_path / "broken.xml").write_text("this is no feed")
    other = house.enrol("worse", 1)
    house.start(house.brief("Only a broken feed", 1, feeds=[str(tmp_path / "broken.xml")]), names[1:])
    house.start(house.brief("A good feed", 1), other)
    house.until_completed([*names[1:], *other])
    failed = house.records("WorkFailed", names[1:])
    assert len(failed) == 4, "as often as the policy allows, and no more"
    assert all("broken_feed" in s.record.data.reason for s in failed)  # type: ignore[union-attr]
    (row,) = house.campaigns(names[1:])
    assert set(row.tasks.values()) == {"closed"}
    assert set(row.reasons.values()) == {"failures", "dependency"}
    assert not house.posts(accounts(names[1:]))
    assert {row.status for row in house.campaigns(other)} == {"completed"}
