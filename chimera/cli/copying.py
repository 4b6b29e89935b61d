"""`chimera replay copy`: chosen agents' records to a topic for staging, which can be folded and looked at and is never executed.

The rule not to break: it writes to no live log, and says what it would write before it does.
Exit codes: 0 copied or shown, 1 failure or refused target, 2 usage, 3 not done (nobody said yes).
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.options import JsonOption, YesOption
from chimera.cli.past import open_log
from chimera.eventlog.copies import target
from chimera.eventlog.moments import moment, parse_time
from chimera.eventlog.read import end_offsets
from chimera.replay import copying
from chimera.replay.copying import Choice
from chimera.replay.look import find_agent


def copy(
    to: Annotated[str, typer.Option("--to", metavar="TARGET", help="A new TOPIC here, or host:port/TOPIC on another cluster.")],
    agents: Annotated[list[str] | None, typer.Option("--agent", help="Only this agent; may be given more than once.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="This tenant's stream and all of its agents.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only whoever did something at or after it.")] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="MOMENT", help="Up to this time (with its zone) or record <partition>:<offset>."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be copied; write nothing.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Copy streams with their exact bytes, places and append times. Sealed fields stay sealed: their keys are not copied.

    Every process refuses to start on a copy. Example: chimera replay copy --agent ava --to staging.chimera.log --dry-run
    """
    log = open_log()
    ends = end_offsets(log.bootstrap, log.topic)
    at = target(to, log.bootstrap, len(ends))
    upto = dict(moment(log.bootstrap, log.topic, until).upto) if until else ends
    with showing("looking for agents by name") as bar:
        keys = frozenset(find_agent(log, name, bar) for name in agents or ())
    with showing("choosing records") as bar:
        made = copying.plan(log, Choice(keys, tenant, parse_time(since) if since else 0), upto, bar)
    shown: dict[str, Any] = {
        "to": f"{at.bootstrap}/{at.topic}",
        "streams": sum(not key.startswith(b"law/") for key in made.streams),
        "records": made.records,
        "places kept for records left out": made.left_out,
        "bytes": made.bytes,
        "effects": "off: no process starts on a copy",
        "keys": "withheld",
    }
    if dry_run:
        _tell("would be copied", shown, as_json)
        return
    output.agreed(f"Copy {made.records} records to {at.bootstrap}/{at.topic}?", yes, as_json)
    with showing("copying and reading back") as bar:
        digest = copying.copy(log, made, at, len(ends), bar)
    _tell("copied and read back", shown | {"sha256": digest}, as_json)


def _tell(title: str, shown: dict[str, Any], as_json: bool) -> None:
    output.print_json(shown | {"outcome": title}) if as_json else output.console().print(output.pairs(title, shown))
