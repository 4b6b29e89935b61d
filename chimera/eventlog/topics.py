"""Topics as code: `topics.yaml` read, and what makes a cluster differ from it. Pure; `cluster` talks to brokers.

The rule not to break: no plan destroys. A partition change on a topic (it would move streams), a retention cut, a
switch between compact and delete, another kind of timestamps are refused; topics are never deleted, and one that this
installation knew and that is gone, or was made anew, is never filled in silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import chimera
from chimera.errors import ChimeraError
from chimera.shapes import Shaped

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

    name: Annotated[str, Shaped(r"^[a-zA-Z0-9._-]+$", "write letters, digits, '.', '_' and '-', as in chimera.log", 1, 249)]
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
