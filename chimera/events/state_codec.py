"""An agent's or a tenant's state as JSON and back: for snapshots, checksums and people.

The rule not to break: what is derived (the `readers` index) is rebuilt, never stored; `FORMAT` rises with every change of shape.
"""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import orjson
from pydantic import TypeAdapter

from chimera.events.records.agents import shared
from chimera.events.state import Agent
from chimera.events.tenant import Tenant

FORMAT = 4
_ADAPTER = TypeAdapter(Agent)
_TENANT = TypeAdapter(Tenant)


def tenant_from_json(data: bytes) -> Tenant:
    """The tenant's state that `state_to_json` wrote."""
    return _TENANT.validate_json(data)


def state_to_json(state: Agent | Tenant) -> bytes:
    """Canonical bytes: equal states give equal bytes. Values that equal their default are left out, to stay small."""
    return orjson.dumps(_small(state), default=_plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)


def state_from_json(data: bytes) -> Agent:
    """The state that `state_to_json` wrote, with its index."""
    agent = _ADAPTER.validate_json(data)
    if agent.policy is not None:
        agent.policy.inline = shared(agent.policy.inline)
    # Written keys are sorted as text ("10" before "2"); what the fold walks in order is walked in the order of numbers.
    agent.campaigns = dict(sorted(agent.campaigns.items()))
    for c in agent.campaigns.values():
        c.tasks = dict(sorted(c.tasks.items()))
        for t in c.tasks.values():
            if t.status != "planned":
                for aspect in t.aspects:
                    agent.readers.setdefault(aspect, set()).add((c.number, t.ordinal))
    return agent


def _small(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            f.name: _small(content)
            for f in dataclasses.fields(value)
            if f.name != "readers" and (content := getattr(value, f.name)) != _default(f)
        }
    if isinstance(value, dict):
        return {key: _small(content) for key, content in value.items()}
    return value


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_defaults=True)
    if isinstance(value, tuple):
        return list(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")
