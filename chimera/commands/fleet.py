"""A fleet as people write it: fleet.yaml, or a CSV table, with the personas and the policy that it names, read and checked.

The rule not to break: one broken agent never stops the others; it becomes a `Problem` that names file, line and the way out.
"""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from pathlib import Path
from typing import Annotated, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chimera.commands.agents import Enrolment, PolicyText
from chimera.policy.boardkit import digest, inline, load_text, parse_rules, parse_soul
from chimera.policy.documents import DocumentError, line_of, parse_yaml
from chimera.shapes import Shaped, TenantName

CSV_COLUMNS = ("name", "soul", "groups", "policy", "x")
DEFAULT_POLICY = "AGENTS.md"


AgentName = Annotated[
    str, Shaped(r"^[^\s/#@][^\s/#]*$", "write up to 64 signs without blanks, / and #, and no @ before it, as in ava", 1, 64)
]


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AllowanceEntry(_Closed):
    """What each agent may spend on metered calls: US dollars per window of so many seconds."""

    limit_usd: Decimal = Field(default=Decimal(0), ge=0)
    window_s: int = Field(default=86_400, gt=0)


class AgentEntry(_Closed):
    """One agent: `soul` and `policy` are files relative to the fleet's; `accounts` maps platform to handle."""

    name: AgentName
    soul: str = Field(min_length=1)
    groups: list[str] = []
    accounts: dict[str, str] = {}
    policy: str | None = None


class FleetFile(_Closed):
    """fleet.yaml. An account that is not written here is the handle that the SOUL.md names for that platform."""

    tenant: TenantName
    policy: str = DEFAULT_POLICY
    allowance: AllowanceEntry = AllowanceEntry()
    agents: list[AgentEntry] = Field(min_length=1)


class Problem(NamedTuple):
    """Why one agent of the file cannot be enrolled."""

    name: str
    message: str


class Fleet(NamedTuple):
    """A fleet ready to be enrolled, and what is wrong with the rest of it."""

    tenant: str
    agents: tuple[Enrolment, ...]
    problems: tuple[Problem, ...]


class _Row(NamedTuple):
    entry: AgentEntry
    place: str


def load_fleet(path: Path, tenant: str = "default") -> Fleet:
    """The fleet at `path`; `tenant` is for CSV files, which name none.

    Raises `DocumentError` when the file as a whole cannot be used.
    """
    text = load_text(path)
    if path.suffix.lower() == ".csv":
        rows, problems = _csv_rows(text, str(path))
        return _fleet(path, tenant, DEFAULT_POLICY, AllowanceEntry(), rows, problems)
    parsed = parse_yaml(FleetFile, text, str(path))
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    rows = []
    for index, entry in enumerate(parsed.agents):
        line = line_of(node, ("agents", index))
        rows.append(_Row(entry, f"{path}, line {line + 1}" if line is not None else str(path)))
    return _fleet(path, parsed.tenant, parsed.policy, parsed.allowance, rows, [])


def _csv_rows(text: str, source: str) -> tuple[list[_Row], list[Problem]]:
    reader = csv.DictReader(io.StringIO(text.lstrip("\ufeff")))
    columns = [column.strip() for column in reader.fieldnames or []]
    missing = [column for column in ("name", "soul") if column not in columns]
    unknown = [column for column in columns if column not in CSV_COLUMNS]
    if missing or unknown:
        what = f"no column '{missing[0]}'" if missing else f"unknown column '{unknown[0]}'"
        raise DocumentError(f"{source}, line 1: {what}: the columns are {', '.join(CSV_COLUMNS)} (name and soul are needed)")
    rows: list[_Row] = []
    problems: list[Problem] = []
    for raw in reader:
        place = f"{source}, line {reader.line_num}"
        cells = {str(key).strip(): str(value or "").strip() for key, value in raw.items() if key is not None}
        if None in raw:
            problems.append(Problem(cells["name"], f"{place}: more cells than columns: quote texts that hold a comma"))
            continue
        try:
            entry = AgentEntry(
                name=cells["name"],
                soul=cells["soul"],
                groups=[group.strip() for group in cells.get("groups", "").split(";") if group.strip()],
                accounts={"x": cells["x"]} if cells.get("x") else {},
                policy=cells.get("policy") or None,
            )
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(step) for step in first["loc"])
            problems.append(Problem(cells["name"], f"{place}, column '{field}': {first['msg']}"))
            continue
        rows.append(_Row(entry, place))
    if not rows and not problems:
        raise DocumentError(f"{source}: no agents: add a line per agent below the columns")
    return rows, problems


def _fleet(path: Path, tenant: str, policy: str, allowance: AllowanceEntry, rows: list[_Row], problems: list[Problem]) -> Fleet:
    base = path.resolve().parent
    policies: dict[str, PolicyText | DocumentError] = {}
    agents: list[Enrolment] = []
    names: dict[str, str] = {}
    accounts: dict[tuple[str, str], str] = {}
    for entry, place in rows:
        if entry.name in names:
            problems.append(
                Problem(entry.name, f"{place}: '{entry.name}' is there already ({names[entry.name]}): give it another name")
            )
            continue
        names[entry.name] = place
        try:
            enrolment = _enrolment(entry, place, base, _policy(base, entry.policy or policy, policies), allowance)
        except DocumentError as error:
            problems.append(Problem(entry.name, f"{place}: {error}"))
            continue
        taken = [f"{p} account '{a}' is {accounts[p, a]}'s" for p, a in enrolment.accounts.items() if (p, a) in accounts]
        if taken:
            problems.append(Problem(entry.name, f"{place}: {taken[0]}: one account belongs to one agent"))
            continue
        accounts |= dict.fromkeys(enrolment.accounts.items(), entry.name)
        agents.append(enrolment)
    return Fleet(tenant, tuple(agents), tuple(problems))


def _enrolment(entry: AgentEntry, place: str, base: Path, policy: PolicyText, allowance: AllowanceEntry) -> Enrolment:
    text = load_text(base / entry.soul)
    soul = parse_soul(text, str(base / entry.soul))
    return Enrolment(
        name=entry.name,
        groups=tuple(entry.groups),
        soul_digest=digest(text),
        soul=text,
        policy=policy,
        accounts={**soul.handles, **entry.accounts},
        limit_usd=allowance.limit_usd,
        window_ms=allowance.window_s * 1000,
        place=place,
    )


def _policy(base: Path, name: str, read: dict[str, PolicyText | DocumentError]) -> PolicyText:
    """The policy file, read once; its error is told for each agent that names it."""
    if name not in read:
        read[name] = _read_policy(base / name)
    found = read[name]
    if isinstance(found, DocumentError):
        raise found
    return found


def _read_policy(path: Path) -> PolicyText | DocumentError:
    try:
        text = load_text(path)
        rules = parse_rules(text, str(path))
    except DocumentError as error:
        return error
    return PolicyText(digest(text), text, inline(rules), rules.stales)
