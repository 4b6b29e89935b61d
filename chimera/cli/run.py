"""`chimera run ROLE_SET`: one process of the swarm in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from chimera import failpoints
from chimera.cli import output
from chimera.observe import logs
from chimera.settings import Settings

GROUPED = ("brain", "gate")
"""Role sets whose processes share the log's partitions by a consumer group."""
ROLE_SETS = (*GROUPED, "command", "projector", "notary", "control")


def command(
    role_set: Annotated[
        str, typer.Argument(help="brain (plans, works, judges), gate (acts outside), command, projector, notary, control.")
    ],
    group: Annotated[str | None, typer.Option(help="Consumer group; another than the default runs a second, rival set.")] = None,
    gate: Annotated[str | None, typer.Option(help="Which of several gates (CHIMERA_GATES) this one is.")] = None,
    instance: Annotated[str | None, typer.Option(help="Static membership id: a short restart then moves no partition.")] = None,
    listen: Annotated[str, typer.Option(help="control: serve at host:port beside the home's own address.")] = "",
    tls_cert: Annotated[Path | None, typer.Option(help="control: certificate with its chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="control: its key, PEM, mode 0600.")] = None,
    host: Annotated[list[str] | None, typer.Option(help="control: a name by which browsers call it; repeat.")] = None,
    proxy: Annotated[list[str] | None, typer.Option(help="control: address of a proxy whose X-Forwarded-* count.")] = None,
) -> None:
    """Run one process of a role set. `chimera up` runs one of each for you.

    Example: chimera run brain --instance brain-2, or CHIMERA_GATES='{"social": ["publish", "paid"], "wallet": ["financial"]}'
    chimera run gate --gate wallet
    """
    if role_set not in ROLE_SETS:
        raise typer.BadParameter(f"no role set '{role_set}': run {', '.join(ROLE_SETS[:-1])} or {ROLE_SETS[-1]}")
    if role_set not in GROUPED and (group is not None or instance is not None):
        raise typer.BadParameter(f"--group and --instance are for {' and '.join(GROUPED)}: {role_set} joins no consumer group")
    if gate is not None and role_set != "gate":
        raise output.usage("--gate goes with `chimera run gate`")
    if role_set != "control" and (listen or tls_cert or tls_key or host or proxy):
        raise output.usage("--listen, --tls-cert, --tls-key, --host and --proxy go with `chimera run control`")
    settings = Settings()
    logs.set_up(role_set, settings)  # a process that is here to be broken says so where it says everything
    failpoints.arm(settings.home, role_set)
    if role_set == "projector":
        from chimera.projections.process import run as project

        project(settings, _embedder(settings))
        return
    if role_set == "command":
        from chimera.commands.server import run as take_commands

        take_commands(settings)
        return
    if role_set == "notary":
        from chimera.audit.process import run as notarise

        notarise(settings)
        return
    if role_set == "control":
        from chimera.control.process import Serving
        from chimera.control.process import run as serve_people

        serve_people(settings, Serving(listen, tls_cert, tls_key, host or (), proxy or ()))
        return
    from chimera.commands.wiring import snapshot_store
    from chimera.processors.runtime import Given, run

    brain = role_set == "brain"
    given = Given(
        group=group,
        instance=instance,
        gate=gate,
        snapshots=snapshot_store(settings),
        owed=_owed(settings) if brain else None,
        memory=_memory(settings) if brain else None,
        episodes=_episodes(settings) if brain else None,
    )
    run(role_set, settings, given)


def _memory(settings: Settings) -> Any:
    """What agents recall from; None where no database is known, or nothing is to be remembered."""
    from chimera.memory.wiring import recall
    from chimera.stack.addresses import StackDown, load

    try:
        return recall(settings, load(settings).postgres, _embedder(settings, waits=False))
    except StackDown:
        return None


def _embedder(settings: Settings, *, waits: bool = True) -> Any:
    """What embeds by the gate, where the settings want that; None else, and nothing of a gate is loaded."""
    if settings.embedding != "endpoint":
        return None
    from chimera.cli.embedding import from_settings

    return from_settings(settings, waits=waits)


def _episodes(settings: Settings) -> Any:
    """What knows the threads that agents answer in; None where no episodes are kept."""
    from chimera.memory.episodes.wiring import episodes

    return episodes(settings)


def _owed(settings: Settings) -> Callable[..., Any] | None:
    """Which posts are to be looked at again, as the read models tell; None where no database is known."""
    from chimera.projections.observable import owed
    from chimera.stack.addresses import StackDown, load

    try:
        return owed(load(settings).postgres, settings.observe_first_s)
    except StackDown:
        return None
