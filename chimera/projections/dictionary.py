"""What analysts read about the views: pages, a diagram, sources for dbt, and the contract that a change is held against.

    python -m chimera.projections.dictionary docs

The rule not to break: all of it is written from `sql/views`; what is published is never taken back within a schema version.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from chimera.errors import ChimeraError
from chimera.projections.parts import PARTED
from chimera.projections.views import ANALYTICS, View, views

Contract = dict[str, dict[str, dict[str, str]]]
"""Schema.view -> column -> type and meaning."""


class ContractBroken(ChimeraError):
    """Something that analysts rely on would change under the name that they know it by."""


def contract(found: list[View]) -> Contract:
    """What is promised."""
    return {f"{v.schema}.{v.name}": {c.name: {"type": c.type, "meaning": c.meaning} for c in v.columns} for v in found}


def broken(promised: Contract, now: Contract) -> list[str]:
    """Each promise that is not kept, in words; new views and new columns break none."""
    out: list[str] = []
    for view, columns in promised.items():
        if view not in now:
            out.append(f"{view} is gone")
            continue
        for name, was in columns.items():
            given = now[view].get(name)
            if given is None:
                out.append(f"{view}.{name} is gone or has another name")
            else:
                out += [
                    f"{view}.{name}: its {what} was {was[what]!r}, now {given[what]!r}" for what in was if was[what] != given[what]
                ]
    return out


def pages(found: list[View]) -> dict[str, str]:
    """File name under docs/analysts -> text."""
    return {
        "views.md": _views(found),
        "metrics.md": _metrics(found),
        "diagram.md": _diagram(found),
        "sources.yml": _sources(found),
        "contract.json": json.dumps(contract(found), indent=1, ensure_ascii=False) + "\n",
    }


def write(directory: Path) -> None:
    """Write the pages. Raises `ContractBroken` where a promise of the contract that lies there would be broken."""
    found = views()
    place = directory / "analysts"
    promised = place / "contract.json"
    if promised.exists():
        lost = broken(json.loads(promised.read_text(encoding="utf-8")), contract(found))
        if lost:
            raise ContractBroken(
                f"{'; '.join(lost)}: give the view a new schema version (analytics_v2) and keep the old one beside it"
            )
    place.mkdir(parents=True, exist_ok=True)
    for name, text in pages(found).items():
        (place / name).write_text(text, encoding="utf-8")


def _views(found: list[View]) -> str:
    out = [
        f"# The views of `{ANALYTICS}`",
        "",
        "Written from `sql/views` by `make docs`. Columns and views are added, never changed or removed: what would break a query",
        "gets a schema of a new version. Every row ends with the place of the record that wrote it last.",
        "",
        "| view | one row is |",
        "|---|---|",
        *(f"| [`{v.name}`](#{v.name}) | {v.row} |" for v in found),
    ]
    for view in found:
        out += ["", f"## {view.name}", "", f"One row is {view.row}. {view.about}", ""]
        if view.time:
            out.append(f"Restrict questions by `{view.time}`." + (" " + _kept(view) if view.name in PARTED else ""))
        if view.scope == "installation":
            out.append("The same for all tenants.")
        if view.refers_to:
            refers = (f"`{', '.join(r.columns)}` → [`{r.view}`](#{r.view})" for r in view.refers_to)
            out.append(f"Leads to: {'; '.join(refers)}.")
        if out[-1]:
            out.append("")
        out += ["| column | type | meaning |", "|---|---|---|", *(f"| `{c.name}` | {c.type} | {c.meaning} |" for c in view.columns)]
    return "\n".join(out) + "\n"


def _kept(view: View) -> str:
    return f"Kept in parts of one {PARTED[view.name]} each: parts that the question does not touch are not read."


def _metrics(found: list[View]) -> str:
    out = [
        "# What the numbers mean",
        "",
        "Written from `sql/views` by `make docs`.",
        "",
        "| number | view | definition |",
        "|---|---|---|",
    ]
    for view in found:
        out += [f"| `{name}` | [`{view.name}`](views.md#{view.name}) | {text} |" for name, text in view.metrics.items()]
    return "\n".join(out) + "\n"


def _diagram(found: list[View]) -> str:
    """Views with the columns that lead somewhere, and what they lead to."""
    named = {view.name for view in found}
    out = ["# How the views hang together", "", "Written from `sql/views` by `make docs`.", "", "```mermaid", "erDiagram"]
    for view in found:
        keys = dict.fromkeys(column for reference in view.refers_to for column in reference.columns)
        types = {c.name: c.type.split("(")[0].replace(" ", "_").replace("[]", "_array") for c in view.columns}
        shown = [f"        {types[name]} {name}" for name in keys] or [
            f"        {types[view.columns[0].name]} {view.columns[0].name}"
        ]
        out += [f"    {view.name} {{", *shown, "    }"]
    for view in found:
        out += [f'    {view.name} }}o--|| {r.view} : "{", ".join(r.columns)}"' for r in view.refers_to if r.view in named]
    return "\n".join([*out, "```"]) + "\n"


def _sources(found: list[View]) -> str:
    tables: list[dict[str, Any]] = []
    for view in found:
        table: dict[str, Any] = {"name": view.name, "description": f"One row is {view.row}. {view.about}"}
        if view.name == "events":
            table |= {"loaded_at_field": "created_at", "freshness": {"warn_after": {"count": 5, "period": "minute"}}}
        table["columns"] = [{"name": c.name, "data_type": c.type, "description": c.meaning} for c in view.columns]
        tables.append(table)
    source = {"name": "chimera", "schema": ANALYTICS, "description": "Read models of Chimera's log.", "tables": tables}
    return "# Written from sql/views by `make docs`: a source for dbt.\n" + yaml.safe_dump(
        {"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=130
    )


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "docs"))
