"""`chimera top`: processes, lag, rulings per second, jobs, effects and cards, as it happens.

The rule not to break: it only looks, and it looks at what the processes write of themselves: nothing waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.errors import ChimeraError
from chimera.observe.doctor import lives, statuses
from chimera.observe.findings import COMMAND, ROLES
from chimera.settings import Settings
from chimera.stack.addresses import running_stack

Look = dict[str, Any]
NO_STACK = "no stack"


def command(
    once: Annotated[bool, typer.Option("--once", help="One look (a second long, for the rates) instead of a live screen.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.5, help="Seconds between two looks.")] = 1.0,
    as_json: JsonOption = False,
) -> None:
    """Show how the processes of this installation are doing, until Ctrl-C. With --json one object per look and line.

    Example: chimera top --once --json
    """
    settings = Settings()
    before = look(settings)
    if before["phase"] == NO_STACK and not before["processes"]:
        raise ChimeraError(f"nothing runs in {before['home']}: start it with `chimera up`, or name another home by --home")
    if once:
        time.sleep(every_s)  # a rate needs two looks
        now = with_rates(look(settings), before)
        if as_json:
            output.print_json(now)
        else:
            output.console().print(_page(now))
        return
    with suppress(KeyboardInterrupt):  # Ctrl-C is how watching ends
        if as_json:
            while True:
                time.sleep(every_s)
                now = with_rates(look(settings), before)
                output.print_json_line(now)
                before = now
        out = output.console()
        while not out.is_terminal:  # a screen that is drawn over and over is nothing to write into a file
            time.sleep(every_s)
            now = with_rates(look(settings), before)
            out.print(_page(now))
            before = now
        with Live(_page(with_rates(before, before)), console=out, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(every_s)
                now = with_rates(look(settings), before)
                live.update(_page(now), refresh=True)
                before = now


def look(settings: Settings) -> Look:
    """What the status files and the stack file say now."""
    home = settings.home.resolve()
    told = [status for status in statuses(home) if lives(int(status["pid"]))]
    stack = running_stack(home)
    return {
        "at": time.time(),
        "home": str(home),
        "phase": stack.get("phase", NO_STACK),
        "servers": [
            {"name": child["name"], "phase": str(child["phase"]), "pid": child.get("pid"), "restarts": child.get("restarts", 0)}
            for child in stack.get("children", [])
        ],
        "processes": [_process(status) for status in told],
        "counts": _sum([status.get("counts", {}) for status in told if status["role_set"] == "brain"]),
    }


def with_rates(now: Look, before: Look) -> Look:
    """`now` with records and rulings per second since `before`, per process and in all (as the brains fold them)."""
    seconds = max(1e-6, now["at"] - before["at"])
    last = {process["pid"]: process for process in before["processes"]}
    for process in now["processes"]:
        old = last.get(process["pid"], process)
        gone = {name: process["rulings"][name] - old["rulings"].get(name, 0) for name in process["rulings"]}
        process["rulings_per_s"] = {name: round(n / seconds, 1) for name, n in gone.items()}
        process["records_per_s"] = round((process["records"] - old["records"]) / seconds, 1)
    brains = [process["rulings_per_s"] for process in now["processes"] if process["role"] == "brain"]
    now["rulings_per_s"] = _sum(brains)
    return now


def missing(now: Look) -> list[str]:
    """The roles that nobody does, where a stack or other processes say that somebody should."""
    there = {process["role"] for process in now["processes"]}
    return [role for role in (*ROLES, COMMAND) if role not in there] if there or now["phase"] != NO_STACK else []


def _process(status: Mapping[str, Any]) -> Look:
    return {
        "role": status["role_set"],
        "pid": status["pid"],
        "http": status.get("http", ""),
        "silent_s": round(max(0.0, time.time() - status.get("at", 0)), 1),
        "unwell": status.get("unwell", []),
        "rss_mb": status.get("rss_mb", 0),
        "partitions": len(status.get("partitions", status.get("offsets", {}))),
        "lag": status.get("lag", {"records": 0, "seconds": 0.0}),
        "jobs": status.get("jobs_by_role", {}),
        "job_errors": status.get("job_errors", 0),
        "rulings": {name: status[name] for name in ("applied", "rejected", "void") if name in status},
        "records": sum(status.get("offsets", {}).values()),
    }


def _sum(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for part in parts:
        for name, n in part.items():
            total[name] = round(total.get(name, 0) + n, 1)
    return total


def _page(now: Look) -> Group:
    heads = ("process", "pid", "state", "partitions", "lag", "records/s", "jobs", "errors", "memory")
    rows: list[Sequence[object]] = []
    for process in now["processes"]:
        lag = process["lag"]
        rows.append(
            (
                process["role"],
                process["pid"],
                _state(process),
                process["partitions"],
                f"{lag['records']} ({lag['seconds']:.1f} s)" if lag["records"] else "0",
                f"{process['records_per_s']:.0f}",
                _counted(process["jobs"]),
                process["job_errors"] or "-",
                f"{process['rss_mb']:.0f} MB",
            )
        )
    rows += [(role, "-", Text("missing", style="red"), *["-"] * 6) for role in missing(now)]
    parts: list[Table | Text] = [
        Text.assemble((f"chimera top  {output.when(int(now['at'] * 1000))} UTC  ", "bold"), str(now["phase"]))
    ]
    parts.append(output.table("", heads, rows))
    ill = [f"{process['role']} ({process['pid']}): {reason}" for process in now["processes"] for reason in process["unwell"]]
    parts += [Text(output.visible(line), style="red") for line in ill]
    counts = now["counts"]
    parts.append(
        output.pairs(
            "",
            {
                "rulings/s": _counted(now["rulings_per_s"]),
                "agents": f"{counts.get('agents', 0):.0f}, {counts.get('agents_held', 0):.0f} held, "
                f"{counts.get('quarantined', 0):.0f} quarantined",
                "open tasks": f"{counts.get('open_tasks', 0):.0f}",
                "effects": f"{counts.get('approved', 0):.0f} approved, {counts.get('claims_open', 0):.0f} claimed, "
                f"{counts.get('unknown_effects', 0):.0f} unknown",
                "cards": f"{counts.get('cards', 0):.0f} wait for people",
                "servers": ", ".join(_server(server) for server in now["servers"]) or "-",
            },
        )
    )
    return Group(*parts)


def _state(process: Mapping[str, Any]) -> Text:
    if process["unwell"]:
        return Text("unwell", style="red")
    if process["silent_s"] > 5:
        return Text(f"silent {process['silent_s']:.0f} s", style="red")
    return Text("well", style="green")


def _server(server: Mapping[str, Any]) -> str:
    told = "" if server["phase"] == "ready" else f" {server['phase']}"
    return f"{server['name']}{told}" + (f" (restarted {server['restarts']} ×)" if server["restarts"] else "")


def _counted(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{n:g} {word}" for word, n in counts.items() if n) or "-"
