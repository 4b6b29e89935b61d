"""Options and arguments that several verbs take, each written once: the same words mean the same everywhere.

The rule not to break: an option that means something else gets another name, not another help text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs, instead of a table.")]
ActorOption = Annotated[str | None, typer.Option("--as", metavar="ACTOR", help="Who gives this command (default: CHIMERA_ACTOR).")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check and show what would be done; append nothing.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; kept in the record.")]
CommentOption = Annotated[str, typer.Option("--comment", help="Words for the record.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask back on a terminal.")]
WaitOption = Annotated[
    Literal["visible"] | None,
    typer.Option("--wait", help="visible: return when the read models (Postgres) show it; exit code 4 where they do not in time."),
]

TenantOption = Annotated[str | None, typer.Option("--tenant", help="Tenant by name; the only one when not given.")]
NamesArgument = Annotated[list[str], typer.Argument(metavar="NAME...", help="Agents by name or stream key.")]
AgentsOption = Annotated[str | None, typer.Option("--agents", metavar="A,B", help="Only these agents, by name.")]
CampaignArgument = Annotated[str, typer.Argument(metavar="CAMPAIGN", help="Campaign id, as `campaign list` shows it.")]
BriefOption = Annotated[Path, typer.Option("-f", "--file", help="The brief (YAML).")]
CardArgument = Annotated[str, typer.Argument(metavar="CARD", help="<agent>/<campaign>.<task>.<attempt>, e.g. ava/1.4.2.")]
EffectOption = Annotated[
    str | None,
    typer.Option("--effect", metavar="HASH", help="Go on only if the card still has this effect hash (or its beginning)."),
]
