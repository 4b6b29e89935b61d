"""`chimera privacy`: forget a person: what they said to agents can be opened by nobody any more. Exit codes: `chimera.cli.output`.

The rule not to break: a person's handle goes no further than this process; what travels and is recorded is a pseudonym.
"""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, TenantOption, YesOption
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.events.sealed import subject_of
from chimera.settings import Settings

app = typer.Typer(help="Privacy: forget a person.", no_args_is_help=True)
_PSEUDONYM = re.compile(r"person/[0-9a-f]{32}")
_KEYS = {"there": "there is a key", "none": "there is no key: nothing of theirs was kept", "gone": "the key is destroyed already"}


@app.callback()
def _privacy() -> None:
    """Privacy: forget a person."""


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
            if not (dry_run or yes) and sys.stdin.isatty():
                typer.confirm(f"forget {subject} in tenant {name} for good?", abort=True, err=True)
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


def _pseudonym(tenant: str, subject: str) -> str:
    if _PSEUDONYM.fullmatch(subject):
        return subject
    platform, _, handle = subject.partition("/")
    if not platform or not handle or platform == "person":
        raise output.usage("write SUBJECT as platform/handle, e.g. x/mallory, or as person/<32 hex digits>")
    return subject_of(tenant, platform, handle.removeprefix("@"))
