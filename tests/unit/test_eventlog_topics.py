"""topics.yaml and the pure plan: what is done, what is refused, what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chimera.eventlog.cluster import pinned_cluster
from chimera.eventlog.topics import ActualTopic, TopicSet, TopicSpec, TopicsUnreadable, WrongCluster, load_topics, plan, problems

FOREVER = {"cleanup.policy": "delete", "retention.ms": "-1", "min.insync.replicas": "1"}


def wanted(partitions: int = 24, replication: int = 1, **config: str) -> TopicSet:
    settings = FOREVER | {name.replace("_", "."): value for name, value in config.items()}
    spec = TopicSpec(name="t", purpose="test", key="stream", partitions=partitions, replication=replication, config=settings)
    return TopicSet(topics=(spec,))


def actual(partitions: int = 24, replication: int = 1, **config: str) -> dict[str, ActualTopic]:
    settings = FOREVER | {name.replace("_", "."): value for name, value in config.items()}
    return {"t": ActualTopic("t", partitions, replication, settings)}


def test_the_repository_file_says_what_the_design_says_of_the_log() -> None:
    log = load_topics()["chimera.log"]
    assert (log.partitions, log.config["message.timestamp.type"]) == (24, "LogAppendTime")
    assert (log.config["cleanup.policy"], log.config["retention.ms"], log.config["retention.bytes"]) == ("delete", "-1", "-1")


def test_the_repository_file_is_found_from_any_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_topics()["chimera.switches"].partitions == load_topics()["chimera.security"].partitions == 1


def test_every_topic_names_a_purpose_a_writer_and_a_reader() -> None:
    assert [t.name for t in load_topics().topics if not (t.purpose and t.writers and t.readers)] == []


def test_a_cluster_that_agrees_needs_nothing() -> None:
    assert plan(actual(), wanted()) == []


def test_a_missing_topic_is_created() -> None:
    assert [(c.kind, c.topic) for c in plan({}, wanted())] == [("create", "t")]


def test_a_harmless_setting_is_set() -> None:
    (change,) = plan(actual(retention_ms="1000"), wanted())
    assert (change.kind, change.field, change.actual, change.wanted) == ("set", "retention.ms", "1000", "-1")


@pytest.mark.parametrize(
    ("has", "wants", "field"),
    [
        (actual(partitions=12), wanted(partitions=24), "partitions"),
        (actual(partitions=24), wanted(partitions=12), "partitions"),
        (actual(replication=1), wanted(replication=3), "replication"),
        (actual(retention_ms="-1"), wanted(retention_ms="1000"), "retention.ms"),
        (actual(retention_ms="2000"), wanted(retention_ms="1000"), "retention.ms"),
        (actual(cleanup_policy="delete"), wanted(cleanup_policy="compact"), "cleanup.policy"),
        (actual(cleanup_policy="compact,delete"), wanted(cleanup_policy="delete"), "cleanup.policy"),
        (
            actual(message_timestamp_type="CreateTime"),
            wanted(message_timestamp_type="LogAppendTime"),
            "message.timestamp.type",
        ),
        (
            actual(message_timestamp_type="LogAppendTime"),
            wanted(message_timestamp_type="CreateTime"),
            "message.timestamp.type",
        ),
    ],
)
def test_what_would_move_or_lose_records_is_refused(has: dict[str, ActualTopic], wants: TopicSet, field: str) -> None:
    (change,) = plan(has, wants)
    assert (change.kind, change.field) == ("refused", field)
    assert change.reason


def test_a_cluster_with_more_copies_than_asked_for_agrees() -> None:
    assert plan(actual(replication=3, min_insync_replicas="2"), wanted()) == []


def test_a_topic_that_the_file_does_not_name_is_left_alone() -> None:
    assert plan(actual() | {"other": ActualTopic("other", 1, 1, {})}, wanted()) == []


def test_a_topic_that_this_installation_knew_is_never_filled_in_or_dropped_silently() -> None:
    same = {"t": actual()["t"]._replace(id="id-1")}
    assert plan(same, wanted(), {"t": "id-1"}) == []
    assert plan(actual(), wanted(), {"t": "id-1"}) == [], "a cluster that tells no ids cannot be asked for them"
    for found, known, field in (
        ({}, {"t": "id-1"}, "topic"),
        (same, {"t": "id-0"}, "topic id"),
        (same, {"t": "id-1", "old": "id-2"}, "delete"),
    ):
        (change,) = plan(found, wanted(), known)
        assert (change.kind, change.field) == ("refused", field)
        assert change.reason


def test_the_repositorys_own_file_is_in_order() -> None:
    assert problems(load_topics()) == problems(load_topics().with_replication(3)) == []


@pytest.mark.parametrize(
    ("topic", "change", "says"),
    [
        ("chimera.log", {"partitions": 12}, "it has 24, for ever"),
        ("chimera.switches", {"partitions": 2}, "it has 1, for ever"),
        ("chimera.log", {"message.timestamp.type": "CreateTime"}, "must be LogAppendTime"),
        ("chimera.log", {"cleanup.policy": "compact"}, "must be delete"),
        ("chimera.security", {"retention.ms": "1000"}, "must be -1"),
        ("chimera.calls", {"retention.ms": "soon"}, "not a number"),
        ("chimera.calls", {"cleanup.policy": "burn"}, "there are delete, compact"),
        ("chimera.calls", {"message.timestamp.type": "Never"}, "there are LogAppendTime and CreateTime"),
        ("chimera.calls", {"min.insync.replicas": "2"}, "nothing could be appended"),
    ],
)
def test_what_could_not_carry_the_installation_is_said(topic: str, change: dict[str, Any], says: str) -> None:
    def changed(spec: TopicSpec) -> TopicSpec:
        if spec.name != topic:
            return spec
        if "partitions" in change:
            return spec.model_copy(update=change)
        return spec.model_copy(update={"config": spec.config | change})

    (problem,) = problems(TopicSet(topics=tuple(changed(spec) for spec in load_topics().topics)))
    assert problem.startswith(f"{topic}: ")
    assert says in problem


def test_a_file_without_the_log_is_said_to_lack_it() -> None:
    assert [p.split(" is ")[0] for p in problems(wanted())] == [
        "topic chimera.log",
        "topic chimera.switches",
        "topic chimera.security",
    ]


def test_three_copies_mean_that_two_must_be_in_sync() -> None:
    (topic,) = wanted().with_replication(3).topics
    assert (topic.replication, topic.config["min.insync.replicas"]) == (3, "2")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a list",
        "topics: [{name: t}]",
        "topics: [just-a-name]",
        "topics: [{name: t, purpose: p, key: k, partitions: 0}]",
        "topics: [{name: t, purpose: p, key: k, partitions: 1, partitons: 2}]",
        "topics: [{name: t, purpose: p, key: k, partitions: 1}, {name: t, purpose: p, key: k, partitions: 1}]",
        "topics: {unclosed",
    ],
)
def test_a_topics_file_that_makes_no_sense_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "topics.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(TopicsUnreadable, match=r"topics\.yaml"):
        load_topics(path)


def test_asking_for_an_unknown_topic_names_the_known_ones() -> None:
    with pytest.raises(TopicsUnreadable, match="which names t"):
        wanted()["u"]


def test_a_broken_pin_is_an_error_and_not_a_missing_pin(tmp_path: Path) -> None:
    assert pinned_cluster(tmp_path) is None
    (tmp_path / "cluster.json").write_text("{}", encoding="utf-8")
    with pytest.raises(WrongCluster):
        pinned_cluster(tmp_path)
