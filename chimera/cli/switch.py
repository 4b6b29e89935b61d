"""`chimera switch`: close and open kill switches, and see what they stopped. Needs Kafka and the key file, no database.

The rule not to break: closing never waits for anything that is not needed to close.
"""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer
from rich.text import Text

from chimera.cli import output
from chimera.cli.folding import open_desk
from chimera.cli.options import ActorOption, JsonOption
from chimera.commands import security, switches, verbs
from chimera.commands.decision import Refused
from chimera.commands.switches import SwitchAnswer
from chimera.eventlog.switches import SCOPES, BadScope, Switch
from chimera.mcp.profiles import PROFILES_DIR, load_profiles
from chimera.settings import Settings

app = typer.Typer(help="Kill switches: close, open, list.", no_args_is_help=True)

ScopeArgument = Annotated[str, typer.Argument(metavar="SCOPE", help=f"{SCOPES}. AGENT: its name or stream key.")]


@app.command()
def close(
    scope: ScopeArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the record.")] = "",
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop every call under SCOPE, within a second, until it is opened. What waits is kept.

    Example: chimera switch close account:x/ava_x --reason 'looks hacked'
    """
    _set(scope, True, reason, actor, as_json)


@app.command("open")
def open_(
    scope: ScopeArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why it is safe to go on; kept in the record.")],
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let calls under SCOPE go on; what was deferred is tried again within two seconds."""
    _set(scope, False, reason, actor, as_json)


@app.command("list")
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also switches that are open again.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Closed switches, why and by whom, and how many effects each of them holds back now."""
    settings = Settings()
    board = switches.board(settings)
    with open_desk(settings) as desk:
        waiting = [switches.Stopped(**each) for each in desk.ask(verbs.SwitchStopped())["stopped"]]
    held = Counter(each.scope for each in waiting)
    shown = sorted((s for s in board.switches.values() if s.closed or everything), key=lambda s: (not s.closed, s.scope))
    if as_json:
        rows = [_as_json(each) | {"stopped": held[each.scope]} for each in shown]
        cards = [{"scope": each.scope, "card": each.card} for each in waiting]
        output.print_json({"switches": rows, "stopped": cards, "ignored": dict(board.ignored)})
        return
    out = output.console()
    cells = [(s.scope, "closed" if s.closed else "open", held[s.scope], s.reason or "-", s.by, output.when(s.at)) for s in shown]
    columns = ("scope", "is", "stopped", "reason", "by", "since")
    out.print(output.table(f"{sum(s.closed for s in shown)} switches closed", columns, cells))
    if board.ignored:
        counts = ", ".join(f"{n} {reason}" for reason, n in sorted(board.ignored.items()))
        out.print(Text(f"records on the topic that do not count: {counts}", style="yellow"))


def _set(scope: str, closed: bool, reason: str, actor: str | None, as_json: bool) -> None:
    settings = Settings()
    try:
        answer = switches.set_switch(
            settings, _meant(settings, scope, closed), closed=closed, reason=reason, actor=actor or settings.actor
        )
    except BadScope as error:
        raise output.usage(str(error)) from None
    except Refused as refusal:
        raise output.refused(refusal, as_json) from None
    if answer.changed:
        security.send_from_shell(settings)
    _finish(answer, as_json)


def _meant(settings: Settings, scope: str, closed: bool) -> str:
    """The scope, an agent's name replaced by its stream key. What no profile knows would stop nothing: a usage error."""
    kind, _, name = scope.partition(":")
    if kind == "agent" and name and not name.startswith("agent/"):
        with open_desk(settings) as desk:
            return f"agent:{desk.ask(verbs.AgentShow(name=name))['stream']}"
    if closed and kind in ("platform", "account", "tool"):
        _known(settings, kind, name.partition("/")[0] if kind == "account" else name)
    return scope


def _known(settings: Settings, kind: str, name: str) -> None:
    profiles = load_profiles(settings.profiles or PROFILES_DIR).by_name.values()
    if kind == "tool":
        known = {f"{p.name}.{spec.tool}" for p in profiles for spec in p.spec.capabilities.values()}
    else:
        name, known = name.lower(), {p.spec.platform for p in profiles if p.spec.platform}
    if name not in known:
        what = "tool" if kind == "tool" else "platform"
        raise output.usage(f"no profile has a {what} '{name}', so this would stop nothing: there are {', '.join(sorted(known))}")


def _finish(answer: SwitchAnswer, as_json: bool) -> None:
    if as_json:
        state = None if answer.switch is None else _as_json(answer.switch)
        row = {"scope": answer.scope, "outcome": answer.outcome, "reason": answer.reason, "changed": answer.changed}
        output.print_json({**row, "switch": state})
    else:
        is_ = "" if answer.switch is None else f", {'closed' if answer.switch.closed else 'open'} (number {answer.switch.number})"
        why = f" ({answer.reason})" if answer.reason else ""
        output.console().print(Text.assemble(f"switch {answer.scope}: ", output.outcome(answer.outcome), why, is_))
    code = output.exit_code([answer.outcome])
    if code:
        raise typer.Exit(code)


def _as_json(switch: Switch) -> dict[str, object]:
    return {
        "scope": switch.scope,
        "closed": switch.closed,
        "reason": switch.reason,
        "number": switch.number,
        "by": switch.by,
        "at_ts": switch.at,
        "offset": switch.offset,
    }
