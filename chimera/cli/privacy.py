"""`chimera privacy`: what the log holds of a person, and forgetting them for good. Exit codes: `chimera.cli.output`.

The rule not to break: a person's handle goes no further than this process; what travels and is recorded is a pseudonym.
"""

from __future__ import annotations

import re
from typing import Annotated

import typer

from chimera.audit.personal import held_of
from chimera.audit.source import KafkaSource
from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, TenantOption, YesOption
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.events.sealed import subject_of
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

app = typer.Typer(help="Privacy: what is held of a person, and forgetting them.", no_args_is_help=True)
_PSEUDONYM = re.compile(r"person/[0-9a-f]{32}")
_KEYS = {"there": "there is a key", "none": "there is no key: nothing of theirs was kept", "gone": "the key is destroyed already"}


@app.command()
def forget(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="PLATFORM/HANDLE, e.g. x/mallory, or person/<32 hex digits>.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the record. Name nobody in it.")],
    tenant: TenantOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy the key of a person's words and name, for all agents of a tenant. It cannot be undone; look first with --dry-run.

    Example: chimera privacy forget x/mallory --reason 'asked for it on 3 May' --dry-run
    """
    who = actor or Settings().actor
    try:
        with open_desk(Settings()) as desk:
            name = desk.ask(verbs.TenantShow(tenant=tenant))["tenant"]
            pseudonym = _pseudonym(name, subject)
            # Nothing brings it back: whoever sits at a terminal is asked also where JSON is wanted.
            output.sure(f"forget {subject} in tenant {name} for good?", yes or dry_run, as_json=False)
            wish = verbs.wish(verbs.PrivacyForget, who, tenant=name, subject=pseudonym, reason=reason, dry_run=dry_run)
            reply = desk.ask(wish)
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None
    if dry_run:
        if as_json:
            output.print_json(reply)
        else:
            typer.echo(f"{pseudonym} of tenant {name}: {_KEYS[reply['key']]}")
            typer.echo("would append SubjectForgotten and destroy the key; what is sealed with it could be opened by nobody")
        return
    answers = verbs.answers_of(reply)
    if as_json:
        rows = [output.answer_json(answer, tenant=who_) for who_, answer in answers]
        output.print_json({"command": "privacy forget", "subject": pseudonym, "key": reply["key"], "answers": rows})
    else:
        output.print_answers(answers, "privacy forget")
        typer.echo(f"{pseudonym}: {_KEYS[reply['key']]}. Backups of keys/subjects hold it until they are destroyed too")
    output.leave([answer.outcome for _, answer in answers])


@app.command()
def report(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="PLATFORM/HANDLE, e.g. x/mallory, or person/<32 hex digits>.")],
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the log holds of a person: every record with words or a name of theirs, and whether anybody can still open them.

    Nothing is opened and nothing is changed. What others wrote, or an agent published, is not sealed and not told here.

    Example: chimera privacy report x/mallory --json
    """
    settings = Settings()
    pseudonym = subject
    if not _PSEUDONYM.fullmatch(subject):
        try:
            with open_desk(settings) as desk:
                pseudonym = _pseudonym(desk.ask(verbs.TenantShow(tenant=tenant))["tenant"], subject)
        except Refused as refusal:
            raise output.refused(refusal, as_json) from None
    standing = SubjectKeyFiles(settings.home / KEYS).standing(pseudonym)
    found = list(held_of(KafkaSource(load_kafka(settings)), pseudonym))
    fields, forgotten = sum(each.fields for each in found), any(each.forgets for each in found)
    if as_json:
        told = {"subject": pseudonym, "key": standing, "sealed_fields": fields, "forgotten": forgotten}
        output.print_json(told | {"records": [each._asdict() for each in found]})
        return
    rows = [(each.at, each.place, each.type, each.stream, each.fields or "-") for each in found]
    output.console().print(output.table(pseudonym, ("when", "record", "type", "stream", "sealed fields"), rows))
    output.console().print(f"{fields} sealed fields in {len(found)} records; {_KEYS[standing]}", highlight=False)
    if forgotten and standing == "there":
        output.note("the log says that they are forgotten, and their key is still here: give `chimera privacy forget` again")


def _pseudonym(tenant: str, subject: str) -> str:
    if _PSEUDONYM.fullmatch(subject):
        return subject
    platform, _, handle = subject.partition("/")
    if not platform or not handle or platform == "person":
        raise output.usage("write SUBJECT as platform/handle, e.g. x/mallory, or as person/<32 hex digits>")
    return subject_of(tenant, platform, handle.removeprefix("@"))
