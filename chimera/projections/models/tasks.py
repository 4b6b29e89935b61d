"""Tasks of a plan and the graph between them."""

from __future__ import annotations

from chimera.events.envelope import Record
from chimera.events.records import PlanDrafted, TaskPlanned
from chimera.events.state import Agent, Change, Ruling, Task
from chimera.projections.rows import Insert, Model, Put, Row, Set, Table, Value, as_json, money, stamp, ts

TASKS = Table("tasks", ("agent_id", "campaign", "ordinal"))
DEPENDENCIES = Table(
    "task_dependencies",
    ("agent_id", "campaign", "ordinal", "depends_on"),
    ("agent_id", "campaign", "ordinal", "depends_on", "partition", "offset"),
)

OVER = frozenset({"done", "closed", "dropped"})


def rows(record: Record, ruling: Ruling, agent: Agent | None) -> list[Row]:
    """Rows of an adopted plan, then every step of a task."""
    out: list[Row] = []
    if type(record.data) is PlanDrafted and any(c.what == "plan" and c.status == "adopted" for c in ruling.changes):
        out += _planned(record, record.data)
    elif isinstance(record.data, TaskPlanned) and ruling.outcome == "rejected":
        # A closed gate: the attempt's number is used up, nothing else happened.
        d = record.data
        waiting: dict[str, Value] = {"status": "planned", "attempt": d.attempt, "reason": ruling.reason}
        out.append(Set(TASKS, (record.key, d.campaign, d.ordinal), waiting | stamp(record)))
    for change in ruling.changes:
        if change.what == "task":
            out.append(_step(record, change, agent))
    return out


def _planned(record: Record, plan: PlanDrafted) -> list[Row]:
    out: list[Row] = []
    for row in plan.rows:
        out.append(
            Put(
                TASKS,
                (record.key, plan.campaign, row.ordinal),
                {
                    "kind": row.kind,
                    "title": row.title,
                    "status": "planned",
                    "reason": "",
                    "attempt": 0,
                    "failures": 0,
                    "plan_round": plan.round,
                    "reads": row.reads,
                    "max_cost_usd": money(row.max_cost_usd),
                    "criteria": as_json(row.criteria),
                    "inputs": as_json(row.inputs),
                    "costly": row.costly,
                    "input_state_version": None,
                    "created_at": ts(record.append_ts),
                    "opened_at": None,
                    "finished_at": None,
                    **stamp(record),
                },
                fresh=plan.round == 1,
            )
        )
        for before in dict.fromkeys(row.depends_on):
            out.append(Insert(DEPENDENCIES, (record.key, plan.campaign, row.ordinal, before, record.partition, record.offset)))
    return out


def _step(record: Record, change: Change, agent: Agent | None) -> Set:
    now = ts(record.append_ts)
    _, campaign, ordinal, attempt, status, reason, _ = change
    values: dict[str, Value] = {
        "status": status, "reason": reason, "updated_at": now, "partition": record.partition, "offset": record.offset,
    }  # fmt: skip
    if status in OVER:
        values["finished_at"] = now
    if attempt:
        values["attempt"] = attempt
    task = _task(agent, change)
    if task is not None:
        values["failures"] = task.failures
        if status == "open":
            values["opened_at"], values["input_state_version"] = now, task.input_state_version
    return Set(TASKS, (record.key, campaign, ordinal), values)


def _task(agent: Agent | None, change: Change) -> Task | None:
    campaign = None if agent is None else agent.campaigns.get(change.campaign)
    return None if campaign is None else campaign.tasks.get(change.ordinal)


MODEL = Model("tasks", (TASKS, DEPENDENCIES), rows, types=frozenset({"TaskPlanned"}), changes=frozenset({"task", "plan"}))
