"""`chimera policy publish | show | status | rollback | diff` and `chimera soul publish`: editions of a tenant.

The rule not to break: a dry run appends nothing and names everybody whom the command would reach.
"""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
import typer

from chimera.cli import output
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, TenantOption
from chimera.commands import verbs
from chimera.commands.decision import Refused
from chimera.commands.wiring import open_desk
from chimera.policy.boardkit import load_text, parse_rules, parse_soul
from chimera.policy.compare import UNNAMED, Difference, differences
from chimera.settings import Settings

GroupOption = Annotated[str, typer.Option("--group", help="Only members of this group.")]
CanaryOption = Annotated[str | None, typer.Option("--canary", metavar="SHARE", help="Only a share of them, e.g. 5%.")]
_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,4})?)%")

app = typer.Typer(help="Personas: publish one to a tenant's members.", no_args_is_help=True)


def publish(
    file: Annotated[Path, typer.Argument(help="AGENTS.md")],
    tenant: TenantOption = None,
    group: GroupOption = "",
    canary: CanaryOption = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a policy to a tenant's members: all, a group, a share. Example: chimera policy publish AGENTS.md --canary 5%"""
    _publish("policy.publish", file, tenant, group, canary, dry_run, actor, as_json)


@app.callback()
def _soul() -> None:
    """Personas: publish one to a tenant's members."""


@app.command("publish")
def publish_soul(
    file: Annotated[Path, typer.Argument(help="SOUL.md")],
    tenant: TenantOption = None,
    group: GroupOption = "",
    canary: CanaryOption = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish one persona to a tenant's members, in place of their own. Example: chimera soul publish SOUL.md --group eu"""
    _publish("soul.publish", file, tenant, group, canary, dry_run, actor, as_json)


def _publish(
    verb: Literal["policy.publish", "soul.publish"],
    file: Path,
    tenant: str | None,
    group: str,
    canary: str | None,
    dry_run: bool,
    actor: str | None,
    as_json: bool,
) -> None:
    who, text, share = actor or Settings().actor, load_text(file), share_ppm(canary)
    (parse_soul if verb == "soul.publish" else parse_rules)(text, str(file))  # its mistakes are told with the file's name
    wish = verbs.wish(verbs.Publish, who, verb=verb, tenant=tenant, text=text, group=group, share_ppm=share, dry_run=dry_run)
    _give(wish, verb.replace(".", " "), dry_run, as_json)


def rollback(
    tenant: TenantOption = None,
    to: Annotated[int | None, typer.Option("--to", help="Edition whose text shall count again; default: the one before.")] = None,
    dry_run: DryRunOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish an earlier text as a new edition, to the whole group that the newest was for (a canary's: to everybody)."""
    wish = verbs.wish(verbs.Rollback, actor or Settings().actor, tenant=tenant, edition=to, dry_run=dry_run)
    _give(wish, "policy rollback", dry_run, as_json)


def _give(wish: verbs.Publish | verbs.Rollback, what: str, dry_run: bool, as_json: bool) -> None:
    try:
        with open_desk(Settings()) as desk:
            reply = desk.ask(wish)
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None
    if dry_run:
        _print_plan(reply, as_json)
        return
    answers = verbs.answers_of(reply)
    if as_json:
        more = {name: reply[name] for name in ("edition", "digest", "told", "text_of") if name in reply}
        rows = [output.answer_json(answer, tenant=name) for name, answer in answers]
        output.print_json({"command": what, "answers": rows} | more)
    else:
        output.print_answers(answers, what)
        if "edition" in reply:
            text_of = f", with the text of edition {reply['text_of']}" if "text_of" in reply else ""
            typer.echo(
                f"edition {reply['edition']} is for {reply['told']} members{text_of}: chimera policy status shows who has it"
            )
    output.leave([answer.outcome for _, answer in answers])


def _print_plan(plan: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(plan)
    elif plan["edition"] is None:
        typer.echo("nothing would be published: the newest edition says the same to the same members")
    else:
        text_of = f" with the text of edition {plan['text_of']}" if "text_of" in plan else ""
        typer.echo(f"edition {plan['edition']}{text_of} would reach {len(plan['agents'])} of {plan['members']} members:")
        typer.echo(output.visible(", ".join(plan["agents"])) or "nobody")


def show(
    tenant: TenantOption = None,
    edition: Annotated[int | None, typer.Option("--edition", help="Number; default: the newest.")] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="What this agent goes by, whoever gave it.")] = None,
    as_json: JsonOption = False,
) -> None:
    """A policy's text as it was published or adopted. Where it comes from is said on standard error."""
    with open_desk(Settings()) as desk:
        found = desk.ask(verbs.PolicyShow(tenant=tenant, edition=edition, agent=agent))
    if as_json:
        output.print_json(found)
        return
    about = f"edition {found['edition']} for {found['for']}, tenant {found['tenant']}, by {found['editor']}"
    output.note(f"{about}, digest {found['digest'][:12]}")
    raw = not sys.stdout.isatty()  # a file gets the exact text, which has the digest; a terminal obeys nothing that is in it
    typer.echo(found["rules"] if raw else output.visible(found["rules"]), nl=False)


def status(tenant: TenantOption = None, as_json: JsonOption = False) -> None:
    """Which policy edition each member has and is meant to have; those behind first, with how long."""
    with open_desk(Settings()) as desk:
        found = desk.ask(verbs.PolicyStatus(tenant=tenant))
    if as_json:
        output.print_json(found)
        return
    out = output.console()
    rows = [
        (e["edition"], e["for"], f"{e['adopted']} of {e['told']}", e["editor"], output.when(e["published_ts"]), e["digest"][:12])
        for e in found["editions"]
    ]
    columns = ("edition", "for", "adopted", "editor", "published", "digest")
    out.print(output.table(f"policies that tenant {found['tenant']} has in force", columns, rows))
    members = sorted(found["members"], key=lambda m: (m["since_ts"] is None, m["since_ts"] or 0, m["agent"]))
    cells = [
        (
            m["agent"],
            ", ".join(m["groups"]) or "-",
            m["has"] or "-",
            m["meant"] or "-",
            m["state"],
            output.ago(m["since_ts"], found["now_ts"]) if m["since_ts"] else "-",
        )
        for m in members
    ]
    out.print(output.table(f"{len(members)} members", ("agent", "groups", "has", "meant", "state", "behind for"), cells))


def diff(
    before: Annotated[Path, typer.Argument(help="AGENTS.md as it was.")],
    after: Annotated[Path, typer.Argument(help="AGENTS.md as it shall be.")],
    as_json: JsonOption = False,
) -> None:
    """What changes between two policies, by what it means. A published text: chimera policy show > before.md"""
    found = differences(*(parse_rules(load_text(path), str(path)) for path in (before, after)))
    if as_json:
        output.print_json({"differences": [each._asdict() for each in found]})
        return
    for each in found:
        typer.echo(output.visible(_line(each)))
    if not found:
        typer.echo("no difference in meaning")


def _line(each: Difference) -> str:
    direction = f" ({each.direction})" if each.direction else ""
    listed = isinstance(each.before, list) and each.meaning != UNNAMED
    values = "" if listed else f" {_value(each.before)} -> {_value(each.after)}"
    return f"{each.field}{values}: {each.meaning}{direction}"


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, str | float | Decimal) else orjson.dumps(value, default=str).decode()


def share_ppm(canary: str | None) -> int:
    """`5%` in parts per million; everybody for None. Raises `BadParameter` for what is no share."""
    if canary is None:
        return 1_000_000
    found = _SHARE.fullmatch(canary.strip())
    share = int(Decimal(found.group(1)) * 10_000) if found else 0
    if not 0 < share <= 1_000_000:
        raise output.usage(f"'{canary}' is no share: write a percentage above 0 and up to 100, e.g. 5% or 0.5%")
    return share
