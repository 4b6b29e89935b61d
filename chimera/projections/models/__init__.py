"""The read models, one file each, all of the same shape: tables, then `rows(record, ruling, agent)`, then the model.

The rule not to break: no model does I/O, and none reads another's rows.
"""

from __future__ import annotations

from functools import cache

from chimera.events.envelope import Record
from chimera.events.state import Ruling
from chimera.projections.models import (
    accounts,
    artifacts,
    assets,
    campaigns,
    commits,
    decisions,
    effects,
    events,
    ledger,
    policies,
    rejections,
    retries,
    reviews,
    signals,
    tasks,
    tenants,
    transactions,
    verdicts,
    voids,
)
from chimera.projections.rows import Model, Table

MODELS: tuple[Model, ...] = (
    campaigns.MODEL,
    policies.MODEL,
    accounts.MODEL,
    tasks.MODEL,
    artifacts.MODEL,
    assets.MODEL,
    verdicts.MODEL,
    decisions.MODEL,
    effects.MODEL,
    transactions.MODEL,
    reviews.MODEL,
    commits.MODEL,
    retries.MODEL,
    signals.MODEL,
    tenants.MODEL,
    ledger.MODEL,
    rejections.MODEL,
    voids.MODEL,
    events.MODEL,
)
"""In the order in which their tables are written: what is referred to comes first. `agents` is the engine's own."""

BY_NAME: dict[str, Model] = {model.name: model for model in MODELS}

TABLES: tuple[Table, ...] = tuple(table for model in MODELS for table in model.tables)


def models_for(record: Record, ruling: Ruling) -> tuple[Model, ...]:
    """Those models that look at this record."""
    changes = ruling.changes
    whats = () if not changes else (changes[0].what,) if len(changes) == 1 else tuple({change.what for change in changes})
    return _route(record.type, ruling.outcome, whats)


@cache
def _route(type_: str, outcome: str, whats: tuple[str, ...]) -> tuple[Model, ...]:
    return tuple(
        model
        for model in MODELS
        if outcome in model.outcomes and ("*" in model.types or type_ in model.types or not model.changes.isdisjoint(whats))
    )
