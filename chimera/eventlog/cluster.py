"""`topics.yaml` held against a cluster: what differs is told, applied, and asserted by every process at start.

The rule not to break: nothing here destroys. What `topics.plan` refuses is refused before anything is touched, and an
installation never talks to another cluster than the one that it was first applied to.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs leave these out of __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from chimera.eventlog.clientlog import ClientLog
from chimera.eventlog.topics import (
    PIN_FILE,
    ActualTopic,
    Change,
    KafkaUnavailable,
    TopicDrift,
    TopicSet,
    TopicSpec,
    WrongCluster,
    plan,
)

log = logging.getLogger(__name__)


def admin_client(bootstrap: str) -> AdminClient:
    """An admin client that fails instead of retrying for ever, and whose noise goes to our log."""
    return AdminClient({"bootstrap.servers": bootstrap, "client.id": "chimera-admin", "log_level": 3}, logger=ClientLog(log))


def cluster_id(bootstrap: str, timeout_s: float = 10.0) -> str:
    """The id of the cluster behind `bootstrap`. Raises `KafkaUnavailable`."""
    try:
        return admin_client(bootstrap).cluster_id(timeout_s)
    except KafkaException as error:
        raise unavailable(bootstrap, "tell its cluster id", error) from error


def actual_topics(bootstrap: str, names: list[str], timeout_s: float = 10.0) -> dict[str, ActualTopic]:
    """Those of `names` that exist, as the cluster holds them. Raises `KafkaUnavailable`."""
    admin = admin_client(bootstrap)
    try:
        listed = admin.list_topics(timeout=timeout_s).topics
        present = [name for name in names if name in listed]
        if not present:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in present]
        answers = admin.describe_configs(resources, request_timeout=timeout_s)
        configs = {
            resource.name: {entry.name: entry.value for entry in future.result(timeout_s).values()}
            for resource, future in answers.items()
        }
        described = admin.describe_topics(TopicCollection(present), request_timeout=timeout_s)
        ids = {name: str(future.result(timeout_s).topic_id) for name, future in described.items()}
    except (KafkaException, TimeoutError) as error:
        raise unavailable(bootstrap, "describe its topics", error) from error
    return {
        name: ActualTopic(
            name,
            len(listed[name].partitions),
            min(len(partition.replicas) for partition in listed[name].partitions.values()),
            {key: str(value) for key, value in configs[name].items() if value is not None},
            ids[name],
        )
        for name in present
    }


def difference(
    bootstrap: str, wanted: TopicSet, home: Path | None = None, timeout_s: float = 10.0, *, whole: bool = False
) -> list[Change]:
    """`plan` of the cluster behind `bootstrap`. With `whole`, `wanted` is all there should be: what `home` knows besides counts.

    Raises `WrongCluster`, `KafkaUnavailable`.
    """
    known = known_topics(home) if home is not None else {}
    names = [*wanted.names, *(name for name in known if whole and name not in wanted.names)]
    kept = {name: id_ for name, id_ in known.items() if whole or name in wanted.names}
    return plan(actual_topics(bootstrap, names, timeout_s), wanted, kept)


def check(bootstrap: str, wanted: TopicSet, home: Path | None = None, timeout_s: float = 10.0, *, whole: bool = False) -> None:
    """Return when the cluster is what `wanted` says and, given `home`, the cluster that home belongs to.

    Raises `TopicDrift` with every difference, `WrongCluster`, `KafkaUnavailable`.
    """
    if home is not None:
        _check_pin(home, cluster_id(bootstrap, timeout_s), bootstrap)
    changes = difference(bootstrap, wanted, home, timeout_s, whole=whole)
    if changes:
        listing = "".join(f"\n  {change}" for change in changes)
        raise TopicDrift(f"the topics at {bootstrap} are not what topics.yaml says:{listing}\nrun `chimera topics apply`", changes)


def require_topics(bootstrap: str, topics: TopicSet, home: Path | None = None, timeout_s: float = 10.0) -> None:
    """What every process does first: refuse to start on drift. Raises what `check` raises."""
    check(bootstrap, topics, home, timeout_s)


def apply(
    bootstrap: str, wanted: TopicSet, home: Path | None = None, *, dry_run: bool = False, timeout_s: float = 30.0
) -> list[Change]:
    """Create and set what is missing and return it; with `dry_run` only return it. Repeating it is harmless.

    The first real apply pins the cluster's id in `home`. Raises `TopicDrift` before touching anything when a
    difference may not be applied, `WrongCluster` when the pin names another cluster, `KafkaUnavailable`.
    """
    found_id = cluster_id(bootstrap, timeout_s)
    if home is not None:
        _check_pin(home, found_id, bootstrap)
    changes = difference(bootstrap, wanted, home, timeout_s, whole=True)
    if dry_run:
        return changes
    refused = [change for change in changes if change.kind == "refused"]
    if refused:
        listing = "".join(f"\n  {change}" for change in refused)
        raise TopicDrift(f"nothing was applied at {bootstrap}, because these steps are refused:{listing}", refused)
    create_topics(bootstrap, [wanted[c.topic] for c in changes if c.kind == "create"], timeout_s)
    _set(bootstrap, [c for c in changes if c.kind == "set"], timeout_s)
    if changes:
        _await_agreement(bootstrap, wanted, timeout_s)
    if home is not None:
        _write_pin(home, found_id, actual_topics(bootstrap, wanted.names, timeout_s))
    return changes


def create_topics(bootstrap: str, specs: list[TopicSpec], timeout_s: float) -> None:
    """Make topics, each as its specification says, with leaders that can be appended to. Raises as `apply` does."""
    if not specs:
        return
    asked = [NewTopic(s.name, s.partitions, s.replication, config=s.config) for s in specs]
    # operation_timeout: return only when the new topic has leaders, so that the first append finds it.
    admin = admin_client(bootstrap)  # kept in a name: a client that is collected destroys its open requests
    answers = admin.create_topics(asked, operation_timeout=timeout_s, request_timeout=timeout_s)
    for name, future in answers.items():
        try:
            future.result(timeout_s)
        except (KafkaException, TimeoutError) as error:
            cause = error.args[0] if error.args else None
            # Somebody else applied the same file at the same time; the check that every process makes tells if it differs.
            if isinstance(cause, KafkaError) and cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            raise unavailable(bootstrap, f"create topic {name}", error) from error


def _set(bootstrap: str, changes: list[Change], timeout_s: float) -> None:
    if not changes:
        return
    by_topic: dict[str, list[ConfigEntry]] = {}
    for change in changes:
        entry = ConfigEntry(change.field, change.wanted, incremental_operation=AlterConfigOpType.SET)
        by_topic.setdefault(change.topic, []).append(entry)
    resources = [ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries) for name, entries in by_topic.items()]
    admin = admin_client(bootstrap)
    for resource, future in admin.incremental_alter_configs(resources).items():
        try:
            future.result(timeout_s)
        except (KafkaException, TimeoutError) as error:
            raise unavailable(bootstrap, f"set {resource.name}", error) from error


def _await_agreement(bootstrap: str, wanted: TopicSet, timeout_s: float) -> None:
    """Return when the brokers show what was applied: the controller says yes some milliseconds before they do."""
    deadline = time.monotonic() + timeout_s
    while changes := plan(actual_topics(bootstrap, wanted.names, timeout_s), wanted):
        if time.monotonic() > deadline:
            listing = "".join(f"\n  {change}" for change in changes)
            raise TopicDrift(f"applied at {bootstrap}, but the brokers do not show it after {timeout_s} s:{listing}", changes)
        time.sleep(0.05)


def pinned_cluster(home: Path) -> str | None:
    """The cluster id that `home` belongs to, None before the first apply. Raises `WrongCluster` for a broken pin."""
    path = home / PIN_FILE
    if not path.exists():
        return None
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["kafka_cluster_id"])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongCluster(f"{path} does not name a cluster: restore it, or remove it and apply again") from error


def _check_pin(home: Path, found: str, bootstrap: str) -> None:
    pinned = pinned_cluster(home)
    if pinned is not None and pinned != found:
        raise WrongCluster(
            f"{home / PIN_FILE} pins cluster {pinned}, but {bootstrap} is cluster {found}: "
            "set CHIMERA_KAFKA to the right brokers, or use another CHIMERA_HOME for this cluster"
        )


def known_topics(home: Path) -> dict[str, str]:
    """The topics that `home` was set up with: name -> id. Empty before the first apply. Raises `WrongCluster` for a broken pin."""
    path = home / PIN_FILE
    if not path.exists():
        return {}
    try:
        known = json.loads(path.read_text(encoding="utf-8")).get("topics", {})
        return {str(name): str(id_) for name, id_ in known.items()}
    except (ValueError, AttributeError) as error:
        raise WrongCluster(f"{path} does not list topics: restore it, or remove it and apply again") from error


def _write_pin(home: Path, found: str, topics: Mapping[str, ActualTopic]) -> None:
    """Pin the cluster and its topics, whole or not at all: half a pin would keep every process from starting."""
    home.mkdir(parents=True, exist_ok=True)
    pin = {"kafka_cluster_id": found, "topics": known_topics(home) | {name: topic.id for name, topic in topics.items()}}
    draft = home / f".{PIN_FILE}.{os.getpid()}"
    draft.write_text(json.dumps(pin, indent=1) + "\n", encoding="utf-8")
    draft.replace(home / PIN_FILE)


def unavailable(bootstrap: str, what: str, error: Exception) -> KafkaUnavailable:
    """The broker's silence or refusal as a person reads it; `what` it did not do."""
    cause = error.args[0] if error.args else "no answer in time"
    if isinstance(cause, KafkaError):
        reason = "no answer in time" if cause.code() in (KafkaError._TIMED_OUT, KafkaError._TRANSPORT) else cause.str()
    else:
        reason = str(cause)
    return KafkaUnavailable(f"Kafka at {bootstrap} did not {what}: {reason}. Is it up? (`chimera status`)")
