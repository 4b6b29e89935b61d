"""Topics as code: `topics.yaml` read, compared with a cluster, applied to it, and asserted by every process at start.

The rule not to break: nothing here destroys. A partition change on a topic (it would move streams), a retention cut, a
switch between compact and delete, another kind of timestamps are refused; topics are never deleted, and one that this
installation knew and that is gone, or was made anew, is never filled in silently.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple, Self

import yaml
from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its stubs leave these out of __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import chimera
from chimera.errors import ChimeraError
from chimera.eventlog.clientlog import ClientLog

log = logging.getLogger(__name__)

PIN_FILE = "cluster.json"
"""In the installation's home: which Kafka cluster its topics were first applied to."""

_AT_LEAST = "min.insync.replicas"
_RETENTION = ("retention.ms", "retention.bytes")
_NUMBERS = (*_RETENTION, _AT_LEAST)
_CLEANUP = frozenset(("delete", "compact"))
_TIMESTAMPS = ("LogAppendTime", "CreateTime")
_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "LogAppendTime"}
_ORDERED: dict[str, tuple[int | None, dict[str, str]]] = {
    "chimera.log": (24, _FOR_EVER),
    "chimera.switches": (1, _FOR_EVER),
    "chimera.security": (1, _FOR_EVER),
}
"""What the law and the design need of topics whose order or completeness decides: partitions, settings."""


class TopicsUnreadable(ChimeraError):
    """topics.yaml is missing or says something that no topic can be."""


class TopicDrift(ChimeraError):
    """The cluster is not what topics.yaml says; `changes` lists every difference."""

    def __init__(self, message: str, changes: list[Change]) -> None:
        super().__init__(message)
        self.changes = changes


class WrongCluster(ChimeraError):
    """This installation belongs to another Kafka cluster than the one that answered."""


class KafkaUnavailable(ChimeraError):
    """Kafka did not answer, or refused an administrative request."""


class TopicSpec(BaseModel):
    """One topic as wanted. `config` holds broker settings under Kafka's names, values as Kafka prints them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")
    purpose: str
    key: str
    partitions: int = Field(ge=1, le=1000)
    replication: int = Field(default=1, ge=1)
    config: dict[str, str] = {}
    writers: tuple[str, ...] = ()
    readers: tuple[str, ...] = ()


class TopicSet(BaseModel):
    """The topics of an installation, by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    topics: tuple[TopicSpec, ...]

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = self.names
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return self

    @property
    def names(self) -> list[str]:
        """Topic names in the order of the file."""
        return [spec.name for spec in self.topics]

    def __getitem__(self, name: str) -> TopicSpec:
        for spec in self.topics:
            if spec.name == name:
                return spec
        raise TopicsUnreadable(f"topic {name!r} is not in topics.yaml, which names {', '.join(self.names)}")

    def only(self, *names: str) -> TopicSet:
        """Those topics alone, for a process that uses no others. Raises `TopicsUnreadable` for an unknown name."""
        return TopicSet(topics=tuple(self[name] for name in names))

    def with_prefix(self, prefix: str) -> TopicSet:
        """The same topics under other names (`prefix` + name), so that tests can share a broker."""
        return TopicSet(topics=tuple(spec.model_copy(update={"name": prefix + spec.name}) for spec in self.topics))

    def with_replication(self, replication: int) -> TopicSet:
        """The same topics with `replication` copies, all but one of which must be in sync before an append counts."""
        config = {_AT_LEAST: str(max(1, replication - 1))}
        return TopicSet(
            topics=tuple(
                spec.model_copy(update={"replication": replication, "config": spec.config | config}) for spec in self.topics
            )
        )


class ActualTopic(NamedTuple):
    """One topic as the cluster holds it; `config` is every setting in force, defaults included."""

    name: str
    partitions: int
    replication: int
    config: dict[str, str]
    id: str = ""
    """The id that Kafka gave it: a topic that was deleted and made anew has another."""


class Change(NamedTuple):
    """One difference between cluster and file. `refused` ones are never applied; `reason` says why, or the way out."""

    topic: str
    kind: Literal["create", "set", "refused"]
    field: str
    actual: str | None
    wanted: str
    reason: str = ""

    def __str__(self) -> str:
        if self.kind == "create":
            return f"create {self.topic}: {self.wanted}"
        text = f"{self.kind} {self.topic} {self.field}: {self.actual} -> {self.wanted}"
        return f"{text} ({self.reason})" if self.reason else text


def default_path() -> Path:
    """topics.yaml at the root of the checkout that this package was installed from."""
    return Path(chimera.__file__).resolve().parent.parent / "topics.yaml"


def load_topics(path: Path | None = None) -> TopicSet:
    """The topics that `path` (the repository's topics.yaml when None) asks for. Raises `TopicsUnreadable`."""
    path = path or default_path()
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TopicsUnreadable(f"cannot read the topics file {path}: {error}") from error
    if not isinstance(read, dict) or not isinstance(read.get("topics"), list):
        raise TopicsUnreadable(f"{path}: expected a mapping with a list under 'topics'")
    defaults = read.get("defaults") or {}
    try:
        return TopicSet.model_validate(
            {
                "topics": [
                    {**defaults, **entry, "config": {**defaults.get("config", {}), **entry.get("config", {})}}
                    for entry in read["topics"]
                ]
            }
        )
    except (ValidationError, TypeError, AttributeError) as error:
        raise TopicsUnreadable(f"{path}: {error}") from error


def problems(wanted: TopicSet) -> list[str]:
    """Why this set of topics could not carry Chimera, each with its place; empty when it could. Pure."""
    found = [f"topic {name} is missing: processes write to it and read it" for name in _ORDERED if name not in wanted.names]
    for spec in wanted.topics:
        partitions, settings = _ORDERED.get(spec.name, (None, {}))
        if partitions is not None and spec.partitions != partitions:
            found.append(f"{spec.name}: {spec.partitions} partitions; it has {partitions}, for ever")
        found += [
            f"{spec.name}: {field} is {spec.config.get(field, 'not given')}; it must be {needed}"
            for field, needed in settings.items()
            if spec.config.get(field) != needed
        ]
        for field, value in spec.config.items():
            if field in _NUMBERS and not value.removeprefix("-").isdecimal():
                found.append(f"{spec.name}: {field} is {value!r}, not a number")
        policy = spec.config.get("cleanup.policy")
        if policy is not None and not set(policy.split(",")) <= _CLEANUP:
            found.append(f"{spec.name}: cleanup.policy is {policy!r}; there are delete, compact, and both with a comma")
        timestamps = spec.config.get("message.timestamp.type", _TIMESTAMPS[0])
        if timestamps not in _TIMESTAMPS:
            found.append(f"{spec.name}: message.timestamp.type is {timestamps!r}; there are {' and '.join(_TIMESTAMPS)}")
        least = spec.config.get(_AT_LEAST, "1")
        if least.isdecimal() and int(least) > spec.replication:
            found.append(f"{spec.name}: {_AT_LEAST} {least} is above replication {spec.replication}: nothing could be appended")
    return found


def plan(actual: Mapping[str, ActualTopic], wanted: TopicSet, known: Mapping[str, str] | None = None) -> list[Change]:
    """What would make the cluster agree with the file, refused steps included; empty when they agree. Pure.

    `known`: topics that this installation was set up with, and their ids. One that is gone, was made anew, or is no longer
    named by the file is a refused step.
    """
    changes: list[Change] = []
    for spec in wanted.topics:
        found, was = actual.get(spec.name), (known or {}).get(spec.name)
        if was is not None and found is None:
            reason = f"its records are gone with it: restore it, or take it out of {PIN_FILE} if it is to begin empty"
            changes.append(Change(spec.name, "refused", "topic", None, was, reason))
            continue
        if was is not None and found is not None and found.id and found.id != was:
            reason = f"it was deleted and made anew: restore it, or take it out of {PIN_FILE} to go on with what is there"
            changes.append(Change(spec.name, "refused", "topic id", found.id, was, reason))
        if found is None:
            shape = f"{spec.partitions} partitions, replication {spec.replication}"
            changes.append(Change(spec.name, "create", "topic", None, shape))
        else:
            changes += _differences(found, spec)
    for name in sorted(set(known or {}) - set(wanted.names)):
        reason = "topics are never deleted from here: name it again, or take it away with Kafka's own tool if it is meant"
        changes.append(Change(name, "refused", "delete", "there" if name in actual else None, "not in the file", reason))
    return changes


def _differences(found: ActualTopic, spec: TopicSpec) -> list[Change]:
    changes: list[Change] = []
    if found.partitions != spec.partitions:
        reason = "keys would move to other partitions: copy into a new topic version instead"
        changes.append(Change(spec.name, "refused", "partitions", str(found.partitions), str(spec.partitions), reason))
    if found.replication < spec.replication:
        reason = "replicas are moved with Kafka's own reassignment tool"
        changes.append(Change(spec.name, "refused", "replication", str(found.replication), str(spec.replication), reason))
    for field, wanted in spec.config.items():
        has = found.config.get(field)
        if has == wanted or (field == _AT_LEAST and has is not None and int(has) >= int(wanted)):
            continue
        reason = _refusal(field, has, wanted)
        changes.append(Change(spec.name, "refused" if reason else "set", field, has, wanted, reason))
    return changes


def _refusal(field: str, has: str | None, wanted: str) -> str:
    """Why this setting is not changed from here, or '' when it may be."""
    if field == "cleanup.policy" and has is not None and ("compact" in has) != ("compact" in wanted):
        return "a switch between compact and delete loses records: copy into a new topic instead"
    if field == "message.timestamp.type" and has is not None:
        return "records would carry two kinds of time, and the law compares them: copy into a new topic instead"
    if field in _RETENTION and has is not None and _shorter(has, wanted):
        return "a retention cut deletes records: do it by hand if it is meant"
    return ""


def _shorter(has: str, wanted: str) -> bool:
    """Whether retention `wanted` keeps less than `has`; negative means for ever."""
    return int(wanted) >= 0 and (int(has) < 0 or int(wanted) < int(has))


# What follows talks to a cluster.


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
    _create(bootstrap, [wanted[c.topic] for c in changes if c.kind == "create"], timeout_s)
    _set(bootstrap, [c for c in changes if c.kind == "set"], timeout_s)
    if changes:
        _await_agreement(bootstrap, wanted, timeout_s)
    if home is not None:
        _write_pin(home, found_id, actual_topics(bootstrap, wanted.names, timeout_s))
    return changes


def _create(bootstrap: str, specs: list[TopicSpec], timeout_s: float) -> None:
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
