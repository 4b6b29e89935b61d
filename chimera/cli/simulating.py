"""`chimera replay simulate`: recorded texts and scores under another policy, before it is published.

The rule not to break: it reads the log and a file; it appends nothing and can reach no tool.
Exit codes: 0 rehearsed, 1 failure, 2 usage.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.options import JsonOption
from chimera.cli.past import open_log
from chimera.errors import ChimeraError
from chimera.eventlog.moments import at_time, parse_time, said
from chimera.eventlog.partitioner import partition_for
from chimera.eventlog.read import end_offsets
from chimera.replay import report
from chimera.replay.look import Log, find_agent
from chimera.replay.outcome import Outcome, notes
from chimera.replay.simulate import Candidate, Selection, candidate, in_processes


class NothingRehearsed(ChimeraError):
    """No recorded vote is selected; the message says what to loosen."""


def simulate(
    policy: Annotated[Path, typer.Option("--policy", help="Directory with the AGENTS.md to rehearse, or that file.")],
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Votes at or after it; with its zone.")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Votes at or before it; with its zone.")] = None,
    agents: Annotated[list[str] | None, typer.Option("--agent", help="Only this agent; may be given more than once.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only this tenant, by name.")] = None,
    html: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with charts.")] = None,
    processes: Annotated[int, typer.Option("--processes", min=1, help="How many read side by side.")] = min(2, os.cpu_count() or 1),
    as_json: JsonOption = False,
) -> None:
    """Judge recorded votes again under another policy: what changes for reviewers and spend, which posts would not have gone out.

    Recorded scores only: no model or platform is asked. Example: chimera replay simulate --policy policies --html rehearsal.html
    """
    given = candidate(policy)
    begin, end = parse_time(since) if since else 0, parse_time(until) if until else 0
    if begin and end and begin > end:
        raise output.usage(f"--since {since} is after --until {until}: nothing lies between them")
    log = open_log()
    with showing("looking for agents by name") as bar:
        keys = None if not agents else frozenset(find_agent(log, name, bar) for name in agents)
    selection = Selection(begin, end, keys, tenant)
    with showing("rehearsing") as bar:
        found = _rehearse(log, given, selection, processes, bar)
    if not found.votes + found.unread:
        raise NothingRehearsed(
            f"no recorded vote is selected ({_asked(selection, agents)}) among {found.records} records: "
            "loosen --since, --until, --agent or --tenant"
        )
    asked = _asked(selection, agents)
    if html is not None:
        html.write_text(report.html(found, given, asked), encoding="utf-8")
    if as_json:
        output.print_json(as_data(found, given))
    else:
        _print(found, given, asked)
        if html is not None:
            output.note(f"page written: {html}")


def _rehearse(log: Log, given: Candidate, selection: Selection, processes: int, bar: Any) -> Outcome:
    ends = end_offsets(log.bootstrap, log.topic)
    upto = dict(at_time(log.bootstrap, log.topic, selection.until).upto) if selection.until else ends
    wanted = sorted(upto) if selection.agents is None else sorted({partition_for(key, len(upto)) for key in selection.agents})
    return in_processes(log, given, selection, partitions=wanted, upto=upto, processes=processes, progress=bar)


def _asked(selection: Selection, agents: list[str] | None) -> str:
    told = [
        f"since {said(selection.since)}" if selection.since else "",
        f"until {said(selection.until)}" if selection.until else "",
        f"of {', '.join(agents)}" if agents else "",
        f"of tenant {selection.tenant}" if selection.tenant else "",
    ]
    return " ".join(filter(None, told)) or "all votes"


def as_data(found: Outcome, given: Candidate) -> dict[str, Any]:
    """A rehearsal as `--json` shows it."""
    before, after = report.cards(found)
    return {
        "policy": {"name": given.rules.name, "source": given.source, "digest": given.digest},
        "records": found.records,
        "votes": found.votes,
        "unread": found.unread,
        "changed": found.changed,
        "routes": [{"before": b, "after": a, "votes": n} for (b, a), n in found.routes.most_common()],
        "drafts": [{"before": b, "after": a, "votes": n} for (b, a), n in found.drafts.most_common()],
        "causes": [{"before": b, "after": a, "because": why, "votes": n} for (b, a, why), n in found.causes.most_common()],
        "cards": {"before": before, "after": after, "by_day": dict(sorted(found.cards.items()))},
        "posts": dict(found.posts),
        "spend_usd": {what: str(amount) for what, amount in found.spend.items()},
        "rework_usd": str(found.rework),
        "examples": {kind: [e._asdict() for e in some] for kind, some in sorted(found.examples.items())},
        "not_rehearsed": notes(found),
    }


def _print(found: Outcome, given: Candidate, asked: str) -> None:
    out = output.console()
    before, after = report.cards(found)
    days = max(1, len(found.cards))
    head = {
        "policy": f"{given.rules.name}, digest {given.digest[:12]}",
        "votes": f"{found.votes} of {found.records} records ({asked})",
        "verdicts that change": found.changed,
        "cards": f"{before} -> {after} ({before / days:.1f} -> {after / days:.1f} per day, {days} days)",
        "posts": ", ".join(f"{n} would have {what}" for what, n in found.posts.most_common()) or "none went out",
        "spend": ", ".join(f"{report.usd(v)} USD {k}" for k, v in found.spend.items()) or "0.00 USD",
        "written again": f"{report.usd(found.rework)} USD more",
    }
    out.print(output.pairs("rehearsal", head))
    out.print(output.table("\nverdicts by route", ("before", "after", "votes"), report.route_rows(found)))
    if found.causes:
        out.print(output.table("\nwhat changes, by rule", ("before", "after", "because of", "votes"), report.cause_rows(found)))
    for kind, some in sorted(found.examples.items()):
        rows = [
            (e.card, e.text, e.before_why or "passed", "; ".join(filter(None, (e.after_why, *e.reasons))) or "passes") for e in some
        ]
        out.print(output.table(f"\nexamples: {kind}", ("card", "text", "before", "after"), rows))
    if found.unread:
        output.note(f"{found.unread} votes left out: the text of the policy that they were made under is not on the log")
    for note in notes(found):
        output.note(note)
