"""Topics as code against a real broker, and the exit codes of `chimera topics`."""

from __future__ import annotations

import json
import time
import uuid
from pathlib import Path

import pytest
from typer.testing import CliRunner

from chimera.cli.topics import app
from chimera.eventlog.cluster import actual_topics, admin_client, apply, check, cluster_id, require_topics
from chimera.eventlog.topics import KafkaUnavailable, TopicDrift, TopicSet, TopicSpec, WrongCluster, load_topics


def one_topic(name: str, partitions: int = 3, **config: str) -> TopicSet:
    settings = {key.replace("_", "."): value for key, value in config.items()}
    return TopicSet(topics=(TopicSpec(name=name, purpose="test", key="any", partitions=partitions, config=settings),))


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:8]}"


def test_all_topics_of_the_file_are_created_once_and_then_agree(kafka_bootstrap: str, name: str, tmp_path: Path) -> None:
    wanted = load_topics().with_prefix(f"{name}.")
    with pytest.raises(TopicDrift) as drift:
        require_topics(kafka_bootstrap, wanted)
    assert {change.kind for change in drift.value.changes} == {"create"}
    assert len(apply(kafka_bootstrap, wanted, tmp_path, dry_run=True)) == len(wanted.names)
    assert actual_topics(kafka_bootstrap, wanted.names) == {}
    assert len(apply(kafka_bootstrap, wanted, tmp_path)) == len(wanted.names)
    assert apply(kafka_bootstrap, wanted, tmp_path) == []
    require_topics(kafka_bootstrap, wanted, tmp_path)
    log = actual_topics(kafka_bootstrap, wanted.names)[f"{name}.chimera.log"]
    assert (log.partitions, log.config["message.timestamp.type"]) == (24, "LogAppendTime")


def test_a_setting_that_drifted_is_found_and_set_back(kafka_bootstrap: str, name: str) -> None:
    apply(kafka_bootstrap, one_topic(name, retention_ms="1000"))
    wanted = one_topic(name, retention_ms="-1")
    with pytest.raises(TopicDrift, match=r"retention\.ms: 1000 -> -1"):
        check(kafka_bootstrap, wanted)
    assert [change.kind for change in apply(kafka_bootstrap, wanted)] == ["set"]
    check(kafka_bootstrap, wanted)


def test_a_refused_step_stops_the_whole_apply(kafka_bootstrap: str, name: str) -> None:
    apply(kafka_bootstrap, one_topic(name, partitions=3))
    wanted = TopicSet(topics=(*one_topic(name, partitions=4).topics, *one_topic(f"{name}.new").topics))
    with pytest.raises(TopicDrift, match="keys would move"):
        apply(kafka_bootstrap, wanted)
    found = actual_topics(kafka_bootstrap, wanted.names)
    assert (list(found), found[name].partitions) == ([name], 3)


def test_a_home_keeps_to_the_cluster_of_its_first_apply(kafka_bootstrap: str, name: str, tmp_path: Path) -> None:
    wanted = one_topic(name)
    apply(kafka_bootstrap, wanted, tmp_path)
    pin = json.loads((tmp_path / "cluster.json").read_text(encoding="utf-8"))
    assert (pin["kafka_cluster_id"], list(pin["topics"])) == (cluster_id(kafka_bootstrap), [name])
    (tmp_path / "cluster.json").write_text('{"kafka_cluster_id": "another"}', encoding="utf-8")
    for attempt in (apply, require_topics):
        with pytest.raises(WrongCluster, match="pins cluster another"):
            attempt(kafka_bootstrap, wanted, tmp_path)


def test_no_broker_is_said_in_bounded_time(name: str) -> None:
    with pytest.raises(KafkaUnavailable, match=r"127\.0\.0\.1:1 did not"):
        check("127.0.0.1:1", one_topic(name), timeout_s=1.0)


def test_the_shell_tells_drift_order_and_failure_apart(
    kafka_bootstrap: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path / "home"))
    path = tmp_path / "topics.yaml"
    path.write_text(f"topics: [{{name: {name}, purpose: p, key: k, partitions: 2}}]", encoding="utf-8")
    shell = CliRunner()
    flags = ["--kafka", kafka_bootstrap, "--file", str(path), "--json"]

    assert shell.invoke(app, ["plan", *flags]).exit_code == 3
    drifted = shell.invoke(app, ["drift", *flags])
    assert (drifted.exit_code, json.loads(drifted.stdout)["changes"][0]["kind"]) == (3, "create")
    planned = shell.invoke(app, ["apply", "--dry-run", *flags])
    assert (planned.exit_code, json.loads(planned.stdout)["state"]) == (3, "planned")
    applied = shell.invoke(app, ["apply", *flags])
    assert (applied.exit_code, json.loads(applied.stdout)["state"]) == (0, "applied")
    for agreeing in ("check", "drift", "plan"):
        assert shell.invoke(app, [agreeing, *flags]).exit_code == 0

    path.write_text(f"topics: [{{name: {name}.other, purpose: p, key: k, partitions: 2}}]", encoding="utf-8")
    dropped = shell.invoke(app, ["drift", *flags])
    found = [(change["topic"], change["kind"], change["field"]) for change in json.loads(dropped.stdout)["changes"]]
    assert (dropped.exit_code, found) == (3, [(f"{name}.other", "create", "topic"), (name, "refused", "delete")])
    assert shell.invoke(app, ["apply", *flags]).exit_code == 3
    assert name in actual_topics(kafka_bootstrap, [name]), "nothing was deleted"

    lacking = shell.invoke(app, ["validate", "--file", str(path), "--json"])
    assert (lacking.exit_code, json.loads(lacking.stdout)["state"]) == (1, "invalid")
    assert shell.invoke(app, ["validate"]).exit_code == 0

    failed = shell.invoke(app, ["check", "--kafka", kafka_bootstrap, "--file", str(tmp_path / "none.yaml")])
    assert (failed.exit_code, "none.yaml" in failed.stderr) == (1, True)
    assert shell.invoke(app, ["check", "--nonsense"]).exit_code == 2


def test_a_topic_that_was_deleted_is_not_made_anew_silently_nor_taken_for_the_old_one(
    kafka_bootstrap: str, name: str, tmp_path: Path
) -> None:
    wanted = one_topic(name)
    apply(kafka_bootstrap, wanted, tmp_path)
    first = actual_topics(kafka_bootstrap, [name])[name].id
    admin = admin_client(kafka_bootstrap)  # kept: a client that nobody holds cancels what it was asked
    admin.delete_topics([name])[name].result(20)
    _until_gone(kafka_bootstrap, name)
    with pytest.raises(TopicDrift, match="its records are gone"):
        apply(kafka_bootstrap, wanted, tmp_path)
    apply(kafka_bootstrap, wanted)  # somebody else makes it anew
    assert actual_topics(kafka_bootstrap, [name])[name].id != first
    for attempt in (apply, require_topics):
        with pytest.raises(TopicDrift, match="made anew"):
            attempt(kafka_bootstrap, wanted, tmp_path)


def _until_gone(kafka_bootstrap: str, name: str) -> None:
    deadline = time.monotonic() + 20
    while actual_topics(kafka_bootstrap, [name]):
        assert time.monotonic() < deadline


def test_another_kind_of_timestamps_is_refused(kafka_bootstrap: str, name: str) -> None:
    apply(kafka_bootstrap, one_topic(name, message_timestamp_type="CreateTime"))
    with pytest.raises(TopicDrift, match="two kinds of time"):
        apply(kafka_bootstrap, one_topic(name, message_timestamp_type="LogAppendTime"))
