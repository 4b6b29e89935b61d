"""What agents remember, asked for from the shell while a whole stack runs."""

from __future__ import annotations

from tests.e2e.house import House

TENANT = "mnemos"


def test_an_agents_facts_and_posts_are_found_shown_counted_and_built_anew(house: House) -> None:
    # given an agent that has posted
    names = house.enrol("mnemo", 1, tenant=TENANT, taint_auto={"publish": "open"}, frequency={})
    house.start(house.brief("Remembered", 1), names)
    house.until_completed(names)

    # when what it noted has become memory
    def facts() -> list[dict[str, object]]:
        words = ("food in season is cheap", "--tenant", TENANT, "--agent", names[0], "--kind", "fact_with_source")
        return list(house.done("memory", "search", *words)["found"])

    def posts() -> list[dict[str, object]]:
        return list(house.done("memory", "search", "food in season is cheap", "--tenant", TENANT, "--kind", "post_result")["found"])

    house.until(facts, "a fact is remembered")
    house.until(posts, "the post is remembered")

    # then each says where it came from, and another tenant does not find it
    fact = facts()[0]
    assert str(fact["made_from"]).startswith("chimera.log[")
    assert str(fact["noted_at"]).startswith("chimera.notes[")
    assert fact["url"]
    assert fact["taint"] == "allowlisted"
    shown = house.done("memory", "show", str(fact["id"]), "--tenant", TENANT)
    assert (shown["text"], shown["agent"]) == (fact["text"], house.agent(names[0]).key)
    assert house.shell("memory", "show", str(fact["id"]), "--tenant", "acme", "--json").code == 1
    counted = {(row["tenant"], row["kind"]): row["notes"] for row in house.done("memory", "stats")["notes"]}
    assert counted[TENANT, "post_result"] == 1

    # and a build beside it holds the same, takes its place, and is built anew in one go
    beside = house.done("replay", "memory", "apply", "--reason", "to compare")["build"]
    assert house.done("replay", "memory", "diff")["equal"]
    assert house.done("replay", "memory", "swap", "--reason", "it is equal")["live"] == beside
    assert {row["is"] for row in house.done("replay", "memory", "status")["builds"]} == {"live", "kept"}

    # and what happened of late is at hand, as it was ruled
    def ended() -> list[dict[str, object]]:
        recent = house.done("memory", "recent", names[0], "--tenant", TENANT, "-n", "200")
        return [
            each for each in recent["events"] if (each["type"], each["words"]) == ("EffectEnded", "executed") and recent["notes"]
        ]

    house.until(ended, "the post is among its last events")
    ids = [seen.record.id for seen in house.records("EffectEnded", names)]
    assert all(event["record"] in ids and event["ruling"] == "applied" for event in ended())
    assert house.shell("memory", "thread", names[0], "x:none", "--tenant", TENANT).code == 1

    # and a rebuild beside it holds the same
    assert house.done("memory", "rebuild", "--dry-run")["would"]["store"] == "postgres"
    assert house.done("memory", "rebuild")["embedding"] == "all-MiniLM-L6-v2-int8"
    house.until(lambda: [each["id"] for each in facts()][:1] == [fact["id"]], "the new build answers")
    again = {(row["tenant"], row["kind"]): row["notes"] for row in house.done("memory", "stats")["notes"]}
    assert {key: count for key, count in again.items() if key[0] == TENANT} == {k: c for k, c in counted.items() if k[0] == TENANT}

    # and nonsense is refused with its way out
    for words in (("search", "x", "--kind", "rumour"), ("search", "x", "--taint", "none"), ("search", "x", "--since", "yesterday")):
        assert house.shell("memory", *words, "--tenant", TENANT).code == 2
