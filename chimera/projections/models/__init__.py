"""The read models, one file each, all of the same shape: tables, then `rows(record, ruling, agent)`, then the model.

The rule not to break: no model does I/O, and none reads another's rows.
"""

from __future__ import annotations

from functools import lru_cache

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

MODEL_OF: dict[Table, str] = {table: model.name for model in MODELS for table in model.tables}


def models_for(record: Record, ruling: Ruling) -> tuple[Model, ...]:
    """Those models that look at this record."""
    changes = ruling.changes
    steps: tuple[tuple[str, str], ...] = ()
    if len(changes) == 1:
        steps = ((changes[0].what, changes[0].status),)
    elif changes:
        steps = tuple({(change.what, change.status) for change in changes})
    return _route(record.type, ruling.outcome, steps)


@lru_cache(maxsize=4096)
def _route(type_: str, outcome: str, steps: tuple[tuple[str, str], ...]) -> tuple[Model, ...]:
    return tuple(
        model
        for model in MODELS
        if outcome in model.outcomes
        and (
            "*" in model.types
            or type_ in model.types
            or any(what in model.changes and (not model.statuses or status in model.statuses) for what, status in steps)
        )
    )
