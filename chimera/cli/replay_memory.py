"""`chimera replay memory`: builds of long-term memory beside the live one, made, compared, swapped in and gone back to.

The rule not to break: readers see one build or the other; whoever changes which says why. Exit codes: 0 done or equal, 1 failed,
refused or different, 2 usage, 3 not confirmed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import NamedTuple

import typer

from chimera.cli.memory import NOTES_PER_S, bar, hands_of, store_of
from chimera.cli.options import ActorOption, DryRunOption, JsonOption, ReasonOption, YesOption
from chimera.cli.output import agreed, can_ask, console, pairs, print_json, table
from chimera.errors import ChimeraError
from chimera.eventlog.read import end_offsets
from chimera.events.notes import TOPIC
from chimera.memory import builds, rebuild, wiring
from chimera.memory.builds import Build
from chimera.projections.checkpoints import connect
from chimera.projections.write import Connection
from chimera.replay.builds import note
from chimera.settings import Settings
from chimera.stack.addresses import load

app = typer.Typer(help="Build long-term memory anew from chimera.notes, beside the live one.", no_args_is_help=True)


class _House(NamedTuple):
    """Where everything is."""

    settings: Settings
    bootstrap: str
    dsn: str
    connection: Connection


@app.command()
def status(as_json: JsonOption = False) -> None:
    """The builds that there are: which is live, by whose vectors, and how many notes are not in each yet."""
    with _house() as house:
        rows = _rows(house)
    if as_json:
        print_json({"builds": rows})
        return
    console().print(table("builds of memory", ("build", "is", "in", "vectors by", "behind"), [tuple(row.values()) for row in rows]))


@app.command()
def plan(as_json: JsonOption = False) -> None:
    """What a build would read, take and use. Changes nothing."""
    with _house() as house:
        notes = _all(house)
        live = builds.live(house.connection)
        told = {
            "notes": notes,
            "seconds": round(notes / NOTES_PER_S, 1),
            "store": house.settings.memory,
            "embedding": house.settings.embedding,
            "live": "none" if live is None else f"build {live.number} in {live.store}, vectors by {live.embedder}",
        }
    if as_json:
        print_json(told)
        return
    console().print(pairs("A build of memory", told))
    console().print("chimera replay memory apply --reason '...'", markup=False)


@app.command()
def apply(reason: ReasonOption = "", actor: ActorOption = None, as_json: JsonOption = False) -> None:
    """Build memory anew beside the live one, or go on with a build that was cut short. Readers notice nothing until `swap`.

    Example: chimera replay memory apply --reason 'another model embeds'
    """
    with _house() as house, _hands(house) as hands:
        _alone(house, reason)
        began = time.monotonic()
        with bar(_all(house), as_json) as tell:
            build, notes = rebuild.made(house.connection, hands, tell)
        seconds = round(time.monotonic() - began, 1)
        _noted(house, "apply", build, actor, reason)
    if as_json:
        print_json({"build": build.number, "notes": notes, "seconds": seconds, "embedding": build.embedder})
        return
    console().print(f"build {build.number} is ready: {notes} notes in {seconds} s, vectors by {build.embedder}", markup=False)
    console().print("chimera replay memory diff\nchimera replay memory swap --reason '...'", markup=False)


@app.command()
def diff(as_json: JsonOption = False) -> None:
    """Compare the newest build with the live one at the same place of the topic, note by note. Exit 1 where they differ."""
    with _house() as house, _hands(house) as hands:
        build = _there(rebuild.newest(house.connection, hands), "diff")
        with connect(house.dsn) as guard:
            found = rebuild.compared(house.connection, guard, hands, build)
    if as_json:
        print_json({"equal": not found.differ, **found._asdict()})
    else:
        said = f"{found.differ} notes differ: {', '.join(found.first)}" if found.differ else "equal"
        counts = f"build {found.live} is live with {found.live_notes} notes, build {found.build} holds {found.build_notes}"
        console().print(f"{counts}: {said}", markup=False)
    if found.differ:
        raise typer.Exit(1)


@app.command()
def swap(reason: ReasonOption = "", actor: ActorOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Catch the newest build up and make it live in one transaction; what was live is kept for `rollback`.

    Example: chimera replay memory swap --reason 'another model embeds'
    """
    _take_place("swap", rebuild.newest, reason, actor, yes, as_json)


@app.command()
def rollback(reason: ReasonOption = "", actor: ActorOption = None, yes: YesOption = False, as_json: JsonOption = False) -> None:
    """Go back to the build that was live before: it catches up first. The store and the embedding are those of the settings."""
    _take_place("rollback", rebuild.before, reason, actor, yes, as_json)


@app.command()
def gc(
    reason: ReasonOption = "",
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    actor: ActorOption = None,
    as_json: JsonOption = False,
) -> None:
    """Drop the builds that are not live, in whatever store they lie. Example: chimera replay memory gc --dry-run"""
    with _house() as house:
        old = builds.unfinished(house.connection)
        if dry_run or not old:
            _say({"would drop": [b.number for b in old]}, f"{len(old)} builds would be dropped", as_json)
            return
        _alone(house, reason)
        _confirmed(f"Drop {len(old)} builds for good? The topic can make them again.", yes, as_json)
        for build in old:
            with closing(wiring.store_called(build.store, house.settings, house.dsn)) as store:
                builds.drop(house.connection, store, build)
            _noted(house, "gc", build, actor, reason)
    _say({"dropped": [b.number for b in old]}, f"{len(old)} builds were dropped", as_json)


def _take_place(
    verb: str,
    which: Callable[[Connection, rebuild.Hands], Build | None],
    reason: str,
    actor: str | None,
    yes: bool,
    as_json: bool,
) -> None:
    with _house() as house, _hands(house) as hands:
        _alone(house, reason)
        build = _there(which(house.connection, hands), verb)
        _confirmed(f"Make build {build.number} the live one?", yes, as_json, always=False)
        with bar(rebuild.behind(house.connection, house.bootstrap, build), as_json) as tell:
            kept = rebuild.swapped(house.connection, hands, build, tell)
        _noted(house, verb, build, actor, reason)
    told = {"live": build.number, "kept": None if kept is None else kept.number}
    later = "" if kept is None else f"; build {kept.number} is kept: `chimera replay memory rollback` goes back, `gc` drops it"
    _say(told, f"build {build.number} is live{later}", as_json)


def _confirmed(question: str, yes: bool, as_json: bool, *, always: bool = True) -> None:
    """Asked on a terminal. `always`: where nobody can be asked it wants --yes. Raises `typer.Exit`, `ChimeraError`."""
    if always and not yes and not can_ask(as_json):
        raise ChimeraError("dropping builds wants --yes where nobody can be asked (--dry-run shows which)")
    agreed(question, yes, as_json)


def _say(told: Mapping[str, object], words: str, as_json: bool) -> None:
    if as_json:
        print_json(told)
    else:
        console().print(words, markup=False)


def _rows(house: _House) -> list[dict[str, object]]:
    live = builds.live(house.connection)
    there = [*([] if live is None else [live]), *builds.unfinished(house.connection)]
    return [
        {
            "build": b.number,
            "is": b.status if b.status == "live" else "kept" if live is not None and b.number < live.number else "beside",
            "store": b.store,
            "embedding": b.embedder,
            "behind": rebuild.behind(house.connection, house.bootstrap, b),
        }
        for b in sorted(there, key=lambda b: b.number)
    ]


def _all(house: _House) -> int:
    """Notes in the topic."""
    return sum(end_offsets(house.bootstrap, TOPIC).values())


def _there(build: Build | None, verb: str) -> Build:
    if build is None:
        raise ChimeraError(
            f"{verb}: there is no such build of this store and embedding (`chimera replay memory status`, `... apply` makes one)"
        )
    return build


def _alone(house: _House, reason: str) -> None:
    if not reason.strip():
        raise typer.BadParameter("say why, with --reason: it is kept with the build")
    if not builds.alone(house.connection):
        raise ChimeraError("another build of memory is under way: wait for it")


def _noted(house: _House, act: str, build: Build, actor: str | None, reason: str) -> None:
    note(house.connection, None, f"memory {act}", actor or Settings().actor, reason, memory=build.number)


@contextmanager
def _house() -> Iterator[_House]:
    settings = Settings()
    places = load(settings)
    with connect(places.postgres) as connection:
        yield _House(settings, places.kafka, places.postgres, connection)


@contextmanager
def _hands(house: _House) -> Iterator[rebuild.Hands]:
    with closing(store_of(house.settings, house.dsn)) as store:
        yield hands_of(house.settings, house.bootstrap, store)
