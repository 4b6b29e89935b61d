"""What an agent published is listed, and taken down by the way of every effect: claimed, recorded, gone from the timeline."""

from __future__ import annotations

from typing import Any, cast

from chimera.events.records import EffectClaimed, EffectEnded
from tests.e2e.house import House


def listed(house: House, name: str, *more: str) -> list[dict[str, Any]]:
    return cast(list[dict[str, Any]], house.done("post", "list", "--agent", name, *more)["posts"])


def test_a_published_post_is_taken_down_once_by_claim_and_record(house: House) -> None:
    # given an agent with two posts
    names = house.enrol("tia", 1)
    house.start(house.brief("Soon gone", 2), names)
    house.until_completed(names)
    rows = listed(house, "tia0")
    assert sorted((row["platform_id"], row["text"]) for row in rows) == sorted(
        (str(id_), text) for id_, text in house.platform("SELECT id, text FROM posts WHERE account = 'tia0_x'")
    )
    assert all(row["taken_down_ts"] == 0 and row["published_ts"] > 0 and row["campaign"] == "soon-gone" for row in rows)
    gone, stays = rows
    words = ("post", "takedown", "tia0", gone["url"], "--reason", "the shop has closed", "--as", "dora")

    # when it is tried dry, nothing is appended
    at = len(house.seen)
    plan = house.done(*words, "--dry-run")
    house.service.catch_up()
    assert plan["plan"] == {"tia0": "CampaignStarted"}
    assert plan["post"]["text"] == gone["text"]
    assert not [seen for seen in house.seen[at:] if seen.record.type == "CampaignStarted"]

    # when one of them is to be taken down
    (answer,) = house.done(*words)["answers"]
    assert (answer["outcome"], answer["changed"]) == ("applied", True)
    house.service.catch_up()  # so that the new campaign is among those that are waited for
    house.until_completed(names, 60)

    # then that one is gone and the other stands, by one claim and one end of the very effect
    standing = house.platform("SELECT id FROM posts WHERE account = 'tia0_x' AND deleted_at IS NULL")
    assert standing == [(int(stays["platform_id"]),)]
    number = max(row.number for row in house.campaigns(names))
    claims = [cast(EffectClaimed, seen.record.data) for seen in house.records("EffectClaimed", names)]
    ends = [cast(EffectEnded, seen.record.data) for seen in house.records("EffectEnded", names)]
    (claim,) = [data for data in claims if data.campaign == number]
    assert [data.outcome for data in ends if data.campaign == number] == ["executed"]
    keys = house.platform("SELECT key FROM calls WHERE tool = 'deletePosts' AND account = 'tia0_x'")
    assert keys == [(claim.effect_hash,)]

    # and the list says so, and asking again does nothing more
    told = {row["platform_id"]: row for row in listed(house, "tia0")}
    assert told[gone["platform_id"]]["taken_down_ts"] > 0
    assert told[gone["platform_id"]]["taken_down_because"] == "the shop has closed"
    assert [row["platform_id"] for row in listed(house, "tia0", "--standing")] == [stays["platform_id"]]
    (again,) = house.done(*words)["answers"]
    assert (again["outcome"], again["changed"]) == ("applied", False)
    assert house.campaigns(names)[-1].status != "running"


def test_what_an_agent_has_not_published_is_refused_with_the_way_out(house: House) -> None:
    house.enrol("una", 1)
    typed = house.run("post", "takedown", "una0", "123456", "--reason", "not ours")
    assert typed.code == 3
    assert "chimera post list --agent una0" in " ".join(typed.out.split())
    typed = house.run("post", "takedown", "una0", "123456", "--reason", "x", "--platform", "nowhere")
    assert typed.code == 3
    assert "no account on nowhere" in typed.out


def test_the_read_models_tell_the_same_posts_as_the_fold(house: House) -> None:
    house.until_projected()
    folded = listed(house, "tia0")
    assert len(folded) == 2
    assert by_id(house.posts_of_models("tia0")) == by_id(folded)
    assert house.sql("SELECT count(*) FROM analytics_v1.posts WHERE agent = 'tia0'") == [(2,)], "a takedown is no post"


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["platform_id"]: row for row in rows}
