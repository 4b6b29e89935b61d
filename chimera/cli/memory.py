"""`chimera memory`: what agents remember, building it anew, and their last episodes. Exit codes: `chimera.cli.output`.

The rule not to break: it shows what may still be opened, of one tenant at a time; only `rebuild` changes anything.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, cast

import psycopg
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chimera.cli import output
from chimera.cli.options import DryRunOption, JsonOption, TenantOption
from chimera.commands.subjects import KEYS, SubjectKeyFiles
from chimera.errors import ChimeraError
from chimera.eventlog.read import end_offsets
from chimera.events.notes import KINDS, TOPIC, Kind
from chimera.events.records.base import Taint
from chimera.memory import builds, wiring
from chimera.memory import rebuild as making
from chimera.memory.contract import MemoryAway, Query, Remembered
from chimera.memory.episodes.contract import Episodes, Noted
from chimera.memory.episodes.wiring import episodes
from chimera.memory.recall import Recall
from chimera.memory.store import Store
from chimera.projections.checkpoints import LOG, NOTICE_ABSENCE, connect
from chimera.projections.write import Connection
from chimera.settings import Settings
from chimera.stack.addresses import load, load_kafka

app = typer.Typer(
    help="What agents remember: search it, look at it, build it anew; and what happened of late.", no_args_is_help=True
)
NOTES_PER_S = 250
"""What a rebuild is taken to do in a second: embedding is most of it."""
_AgentOption = Annotated[str | None, typer.Option("--agent", "-a", help="Only what this agent remembers (name or agent/<uuid>).")]


@app.command()
def search(
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to remember; meaning counts, not only words.")],
    tenant: TenantOption = None,
    agent: _AgentOption = None,
    kind: Annotated[list[str] | None, typer.Option("--kind", "-k", help=f"Only these kinds: {', '.join(KINDS)}.")] = None,
    taint: Annotated[str, typer.Option("--taint", help="Nothing less trustworthy: owner, allowlisted or open.")] = "open",
    since: Annotated[str | None, typer.Option("--since", help="Nothing older: 2026-11-22T14:00:00Z.")] = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, max=100, help="How many.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """Recall what fits a text best: by meaning, by shared words and by age.

    Example: chimera memory search 'cheap food in season' --agent ava --kind fact_with_source
    """
    if wrong := [each for each in kind or [] if each not in KINDS]:
        raise output.usage(f"no kind of note is called '{wrong[0]}': {', '.join(KINDS)}")
    if taint not in ("owner", "allowlisted", "open"):
        raise output.usage(f"no level of taint is called '{taint}': owner, allowlisted or open")
    settings = Settings()
    dsn = load(settings).postgres
    name, key = _whose(dsn, tenant, agent)
    kinds = cast("tuple[Kind, ...]", tuple(kind or ()))
    query = Query(text, key, kinds, cast(Taint, taint), _ms(since) if since else 0, most)
    with closing(_recall(settings, dsn)) as memory:
        found = memory.recall(name, query)
    if as_json:
        output.print_json({"tenant": name, "found": [_json(each) for each in found]})
        return
    rows = [(f"{e.score:.2f}", e.note.kind, _when(e.note.ts), e.note.taint, e.note.id[:8], _told(e)) for e in found]
    output.console().print(output.table(f"tenant {name}", ("score", "kind", "when", "taint", "note", "words"), rows))


@app.command()
def show(
    note: Annotated[str, typer.Argument(metavar="NOTE", help="A note's id, as `search --json` tells it.")],
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """One note with where it came from. Exit 1 where the tenant has none of that id, or nobody may open it any more."""
    settings = Settings()
    dsn = load(settings).postgres
    name, _ = _whose(dsn, tenant, None)
    with closing(_recall(settings, dsn)) as memory:
        found = memory.show(name, note)
    if found is None:
        raise ChimeraError(f"tenant {name} remembers no note {note}: look for it with `chimera memory search`")
    if as_json:
        output.print_json(_json(found))
        return
    told = _json(found)
    rows = [(key, told[key] if isinstance(told[key], str) else json.dumps(told[key])) for key in told if told[key] not in ("", {})]
    output.console().print(output.table(f"note {note}", ("what", "is"), rows))


@app.command()
def stats(as_json: JsonOption = False) -> None:
    """How much is remembered, of what kind, by whose vectors, and how many notes are not in memory yet."""
    settings = Settings()
    places = load(settings)
    with closing(store_of(settings, places.postgres)) as store, connect(places.postgres) as connection:
        build = _live(connection)
        at = connection.execute(
            "SELECT coalesce(sum(next_offset), 0)::bigint, coalesce(sum(unreadable), 0)::bigint FROM memory.checkpoints"
            " WHERE model_set = %s",
            (build.model_set,),
        ).fetchone()
        counts = store.counts(build.number)
    assert at is not None
    behind = max(0, sum(end_offsets(places.kafka, TOPIC).values()) - int(at[0]))
    told = {"store": build.store, "build": build.number, "embedding": build.embedder, "behind": behind, "unreadable": int(at[1])}
    rows = [{"tenant": t, "kind": k, "notes": n, "newest": _when(ts)} for t, k, n, ts in counts]
    if as_json:
        output.print_json(told | {"notes": rows})
        return
    cells = [tuple(row.values()) for row in rows]
    output.console().print(output.table("what is remembered", ("tenant", "kind", "notes", "newest"), cells))
    output.console().print(
        f"build {build.number} in {build.store}, vectors by {build.embedder}; {behind} notes are not in yet", highlight=False
    )


@app.command()
def rebuild(dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Build memory anew from `chimera.notes` beside the live one, and swap. What is recalled meanwhile comes from the old one.

    Needed after the embedding or the store was changed; otherwise it makes what is there already. The projector may run meanwhile.
    `chimera replay memory` does the same step by step, compares before it swaps, and keeps what was there.

    Example: chimera memory rebuild --dry-run
    """
    settings = Settings()
    bootstrap, dsn = load_kafka(settings), load(settings).postgres
    notes = sum(end_offsets(bootstrap, TOPIC).values())
    if dry_run:
        seconds = round(notes / NOTES_PER_S, 1)
        told: dict[str, Any] = {"notes": notes, "seconds": seconds, "store": settings.memory, "embedding": settings.embedding}
        if as_json:
            output.print_json({"would": told})
        else:
            typer.echo(f"would read {notes} notes, about {seconds} s, into a new build in {settings.memory}, and swap it in")
        return
    began = time.monotonic()
    with closing(store_of(settings, dsn)) as store, connect(dsn) as connection:
        hands = hands_of(settings, bootstrap, store)
        if not builds.alone(connection):
            raise ChimeraError("another build of memory is under way: wait for it")
        for left in builds.unfinished(connection):  # cut short, or kept: nobody reads them
            if left.store == store.kind:
                builds.drop(connection, store, left)
        with bar(notes, as_json) as tell:
            build, done = making.made(connection, hands, tell)
        before = making.swapped(connection, hands, build)
        if before is not None:
            _dropped(settings, dsn, connection, before)
    told = {"build": build.number, "notes": done, "seconds": round(time.monotonic() - began, 1), "embedding": build.embedder}
    if as_json:
        output.print_json(told)
    else:
        typer.echo(f"build {build.number} is live: {done} notes in {told['seconds']} s, vectors by {build.embedder}")


def _dropped(settings: Settings, dsn: str, connection: Connection, build: builds.Build) -> None:
    """Take a build away wherever it lies; where that does not answer, say how to do it later."""
    try:
        with closing(wiring.store_called(build.store, settings, dsn)) as store:
            builds.drop(connection, store, build)
    except MemoryAway as away:
        later = "`chimera replay memory gc --reason '...' --yes` does it when it answers"
        output.console(stderr=True).print(f"build {build.number} in {build.store} is not dropped ({away}): {later}", markup=False)


@contextmanager
def bar(notes: int, quiet: bool) -> Iterator[making.Tell]:
    """A line that says how many of so many notes are in a build, and for how long still."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=output.console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("notes", total=notes)
        yield lambda left: progress.update(task, completed=max(0, notes - left))


def hands_of(settings: Settings, bootstrap: str, store: Store) -> making.Hands:
    """What builds are made with, by the settings. Raises `MemoryAway` where nothing embeds."""
    keys = SubjectKeyFiles(settings.home / KEYS)
    return making.Hands(bootstrap, store, wiring.embedder_of(settings, _endpoint(settings))(), keys, keys.gone)


@app.command()
def recent(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Name or agent/<uuid>.")],
    tenant: TenantOption = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, max=1_000, help="How many events, and how many notes.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """An agent's last events and notes, from the episodic cache: what counted, and what it remembers of late.

    Example: chimera memory recent ava -n 10
    """
    name, key = _whose(load(Settings()).postgres, tenant, agent)
    with closing(_episodes(Settings())) as asked:
        events, notes = asked.events(name, key, most), asked.notes(name, key, most)
    if as_json:
        output.print_json(
            {
                "tenant": name,
                "agent": key,
                "events": [{**e._asdict(), "at": _place(LOG, e.at), "ts": _when(e.ts)} for e in events],
                "notes": [_noted_json(n) for n in notes],
            }
        )
        return
    cells = [
        (_when(e.ts), e.type, " ".join(part for part in (e.ruling, e.reason) if part), _task(e.campaign, e.ordinal), e.words)
        for e in events
    ]
    output.console().print(output.table(f"{agent}: events", ("when", "record", "ruling", "task", "words"), cells))
    said = [(_when(n.happened), n.kind, n.taint, output.visible(n.text)) for n in notes]
    output.console().print(output.table(f"{agent}: notes", ("when", "kind", "taint", "words"), said))


@app.command()
def thread(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Name or agent/<uuid>.")],
    name: Annotated[str | None, typer.Argument(metavar="THREAD", help="As this lists them; none: which threads there are.")] = None,
    tenant: TenantOption = None,
    most: Annotated[int, typer.Option("--most", "-n", min=1, max=1_000, help="How many of the newest words.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """What was said in a thread of an agent, oldest first, from the episodic cache: by others, and what went out as its answer.

    Example: chimera memory thread ava x:1042
    """
    whose, key = _whose(load(Settings()).postgres, tenant, agent)
    with closing(_episodes(Settings())) as asked:
        if name is None:
            names = asked.threads(whose, key)
            if as_json:
                output.print_json({"tenant": whose, "agent": key, "threads": names})
            else:
                output.console().print(output.table(f"{agent}: threads", ("thread",), [(each,) for each in names]))
            return
        told = asked.thread(whose, key, name, most)
    if not told:
        raise ChimeraError(f"no words of a thread {name} of {agent} are kept: `chimera memory thread {agent}` lists those that are")
    if as_json:
        said = [{**t._asdict(), "at": _place(LOG, t.at), "ts": _when(t.ts)} for t in told]
        output.print_json({"tenant": whose, "agent": key, "thread": name, "said": said})
        return
    cells = [(_when(t.ts), "the agent" if t.by == "us" else "somebody", output.visible(t.text)) for t in told]
    output.console().print(output.table(f"{agent}: {name}", ("when", "who", "words"), cells))


def _episodes(settings: Settings) -> Episodes:
    found = episodes(settings)
    if found is None:
        raise ChimeraError("no episodes are kept: install the extra 'cache' and start the stack anew, or set CHIMERA_CACHE")
    return found


def _noted_json(note: Noted) -> dict[str, Any]:
    told = note._asdict()
    places = {"at": _place(TOPIC, note.at), "made_from": _place(LOG, note.made_from)}
    return told | places | {"happened": _when(note.happened), "ts": _when(note.ts)}


def _place(topic: str, at: tuple[int, int]) -> str:
    return f"{topic}[{at[0]}]{at[1]}"


def _task(campaign: int | None, ordinal: int | None) -> str:
    return "" if campaign is None else f"{campaign}" if ordinal is None else f"{campaign}.{ordinal}"


def store_of(settings: Settings, dsn: str) -> Store:
    store = wiring.store_in(settings, dsn)
    if store is None:
        raise ChimeraError("memory is off: set CHIMERA_MEMORY=postgres")
    return store


def _recall(settings: Settings, dsn: str) -> Recall:
    found = wiring.recall(settings, dsn, _endpoint(settings))
    if found is None:
        raise ChimeraError("memory is off: set CHIMERA_MEMORY=postgres")
    return found


def _endpoint(settings: Settings) -> wiring.Make | None:
    """What embeds by the gate, where the settings want that; else nothing of a gate is loaded."""
    if settings.embedding != "endpoint":
        return None
    from chimera.cli.embedding import from_settings

    return from_settings(settings)


def _live(connection: psycopg.Connection[Any]) -> builds.Build:
    build = builds.live(connection)
    if build is None:
        raise ChimeraError("nothing is remembered yet: the projector makes memory when it runs (`chimera doctor` says more)")
    return build


def _whose(dsn: str, tenant: str | None, agent: str | None) -> tuple[str, str]:
    """The tenant that is asked about, and the agent's key ("" for all). Raises `ChimeraError` where that is not clear."""
    with psycopg.connect(dsn, autocommit=True, **NOTICE_ABSENCE) as connection:
        known = [row[0] for row in connection.execute("SELECT DISTINCT tenant FROM core.agents ORDER BY tenant")]
        if tenant is None and len(known) != 1:
            raise output.usage(f"say which tenant by --tenant: {', '.join(known) or 'there is none yet'}")
        name = tenant or known[0]
        if agent is None:
            return name, ""
        found = connection.execute(
            "SELECT agent_id FROM core.agents WHERE tenant = %s AND %s IN (agent_id, name)", (name, agent)
        ).fetchone()
    if found is None:
        raise ChimeraError(f"tenant {name} has no agent '{agent}': `chimera agent list`")
    return name, str(found[0])


def _json(found: Remembered) -> dict[str, Any]:
    n = found.note
    return {
        "id": n.id,
        "kind": n.kind,
        "text": found.text,
        "agent": n.agent,
        "when": _when(n.ts),
        "taint": n.taint,
        "policy_edition": n.policy_edition,
        "platform": n.platform,
        "title": n.title,
        "url": n.url,
        "numbers": n.numbers,
        "record": n.record,
        "made_from": f"chimera.log[{n.record_at[0]}]{n.record_at[1]}",
        "noted_at": f"{TOPIC}[{n.note_at[0]}]{n.note_at[1]}",
        "score": found.score,
        "parts": found.parts,
    }


def _told(found: Remembered) -> str:
    numbers = ", ".join(f"{value:g} {name}" for name, value in sorted(found.note.numbers.items()) if value)
    words = output.visible(found.text)
    return " ".join(part for part in (words, f"({numbers})" if numbers else "", found.note.url) if part)


def _when(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _ms(text: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise output.usage(f"'{text}' is no time: write it as 2026-11-22T14:00:00Z") from None
    if at.tzinfo is None:
        raise output.usage(f"'{text}' says no time zone: write {text}Z for UTC")
    return int(at.timestamp() * 1000)
