"""`chimera audit report | sample | duties | changes`: answers for auditors, from the signed log or from an export that lies here.

The rule not to break: exit codes are a contract: 0 answered, 1 failure (or a conflict of duties), 2 usage. Reading changes nothing.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated

import typer

from chimera.audit import reports
from chimera.audit.book import SECURITY, Book, book_of, live_book, noted_in
from chimera.audit.paper import page_of
from chimera.audit.source import KafkaSource
from chimera.audit.story import moment, story_of
from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.commands.keys import load_installation
from chimera.eventlog import switches
from chimera.events.envelope import decode
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

ExportOption = Annotated[
    Path | None,
    typer.Option("--export", exists=True, file_okay=False, help="Answer from this export, without a server; else from the log."),
]


def report(
    effect: Annotated[
        str, typer.Option("--effect", metavar="ID", help="Platform id, effect hash, a record's id, or a card (ava/1.4.1).")
    ],
    out: Annotated[Path | None, typer.Option("--out", dir_okay=False, help="File; default: report-<id>.html.")] = None,
    export: ExportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Why did this go out? Each record from the brief to the platform's id with its proof, as a page that prints well.

    Example: chimera audit report --effect 2124522906800095232 --out why.html
    """
    book = _book(export)
    story = story_of(book, effect)
    keys = [base64.b64encode(public).decode() for public in book.publics]
    path = out or Path(f"report-{(story.platform_id or story.effect_hash or effect).replace('/', '-')[:40]}.html")
    path.write_text(page_of(story, book.whence, keys))
    if as_json:
        steps = [
            {
                "record": step.page.record.id,
                "type": step.page.record.type,
                "partition": step.page.raw.partition,
                "offset": step.page.raw.offset,
                "appended": step.at,
                "ruling": step.page.ruling.outcome,
                "says": step.says,
                "proof": step.proof.text().decode(),
            }
            for step in story.steps
        ]
        told = {"report": str(path), "executed": story.executed, "stream": story.stream, "card": str(story.address)}
        output.print_json(told | {"effect_hash": story.effect_hash, "platform_id": story.platform_id, "steps": steps})
        return
    for step in story.steps:
        output.console().print(f"{step.at} {output.visible(step.says)}", highlight=False, markup=False)
    output.console().print(f"{path}: {len(story.steps)} records, each with its proof", highlight=False, markup=False)


def sample(
    n: Annotated[int, typer.Option("--n", min=1, help="How many.")] = 25,
    seed: Annotated[
        str, typer.Option("--seed", help="Any text, chosen after the log was signed: the same seed draws the same.")
    ] = "1",
    export: ExportOption = None,
    as_json: JsonOption = False,
) -> None:
    """Draw some of the executed effects by a seed: those whose SHA-256 of seed and leaf hash is smallest.

    Example: chimera audit sample --n 25 --seed 'noon of 3 May'
    """
    drawn, total = reports.sample(_book(export), n, seed)
    if as_json:
        output.print_json({"seed": seed, "of": total, "drawn": [each._asdict() for each in drawn]})
        return
    rows = [(each.at, each.place, each.stream, each.card, each.platform_id) for each in drawn]
    output.console().print(
        output.table(f"{len(drawn)} of {total} effects", ("when", "record", "agent", "card", "platform id"), rows)
    )


def duties(export: ExportOption = None, as_json: JsonOption = False) -> None:
    """Who requested, edited, approved and executed each effect, and whether anybody did two things that one may not. Exit 1 if so.

    Example: chimera audit duties --export export
    """
    found = list(reports.duties(_book(export)))
    wrong = [each for each in found if each.conflicts]
    if as_json:
        output.print_json({"effects": [vars(each) | {"conflicts": each.conflicts} for each in found], "conflicts": len(wrong)})
    else:
        columns = ("record", "card", "requested", "policy by", "approved", "executed", "conflicts")
        rows = [
            (
                d.place,
                d.card,
                d.requester,
                d.policy_editor,
                ", ".join(d.approvers) or "judges alone",
                d.executor,
                "; ".join(d.conflicts) or "-",
            )
            for d in found
        ]
        output.console().print(output.table(f"{len(found)} executed effects, {len(wrong)} with a conflict", columns, rows))
    if wrong:
        raise typer.Exit(1)


def changes(export: ExportOption = None, as_json: JsonOption = False) -> None:
    """Every change of keys, policies, personas, kill switches, accounts and analysts, counted or not, in the order of append times.

    What the law does not rule on is `noted` (chimera.security). Of the running log switches are listed from their own topic, with
    their reasons and with those that did not count.

    Example: chimera audit changes
    """
    found = reports.changes(_book(export))
    if export is None:
        settings = Settings()
        source = KafkaSource(load_kafka(settings))
        raws = (raw for raws in source.read(SECURITY, 0, source.ends(SECURITY)[0]) for raw in raws)
        noted = [each for each in reports.noted_changes(raws) if each.kind != "switch"]
        found = sorted([*found, *_switches(), *noted])
    else:
        found = sorted([*found, *reports.noted_changes(noted_in(export))])
    if as_json:
        output.print_json({"changes": [each._asdict() for each in found]})
        return
    columns = ("when", "record", "what", "by", "ruling", "change")
    output.console().print(output.table(f"{len(found)} changes", columns, [tuple(each) for each in found]))


def _switches() -> list[reports.Change]:
    settings = Settings()
    source, found = KafkaSource(load_kafka(settings)), list[reports.Change]()
    keys = switches.read_keys(source.bootstrap, load_installation(settings.home).root_public)
    if keys is None:
        return found
    board = switches.Board(keys)
    for raws in source.read(switches.TOPIC, 0, source.ends(switches.TOPIC)[0]):
        for raw in raws:
            why, record = board.apply(raw), decode(raw)
            said = f"{record.key}: cannot be read"
            if why != "unreadable":
                told = switches.SwitchSet.model_validate_json(record.value)
                said = f"{told.scope} {'closed' if told.closed else 'opened'}: {told.reason}"
            ruling = f"ignored ({why})" if why else "applied"
            place = f"{switches.TOPIC}[0]@{raw.offset}"
            found.append(reports.Change(moment(raw.append_ts), place, "switch", record.actor, ruling, said))
    return found


def _book(export: Path | None) -> Book:
    if export is not None:
        return book_of(export)
    settings = Settings()
    return live_book(KafkaSource(load_kafka(settings)), settings.home)
