"""`chimera metrics`: platform numbers from files. Exit codes: 0 all rows, 1 failure, 2 usage, 3 some rows were rejected."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer

from chimera.cli.options import DryRunOption, JsonOption
from chimera.cli.output import NOT_COUNTED, console, note, pairs, print_json
from chimera.commands import engagement
from chimera.errors import ChimeraError
from chimera.eventlog.append import Appender
from chimera.eventlog.topics import load_topics
from chimera.events.metrics import TOPIC
from chimera.settings import Settings
from chimera.stack.addresses import load as addresses

app = typer.Typer(help="Platform numbers of posts: load them from files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps `load` a verb of its own."""


@app.command()
def load(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV with a header, JSONL or Parquet.")],
    rejects: Annotated[Path | None, typer.Option(help="Where rejected rows go (default: FILE.rejects.jsonl).")] = None,
    again: Annotated[bool, typer.Option("--again", help="Load it from its beginning, although it was loaded.")] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Append the observations of a file; it goes on where it was interrupted. Example: chimera metrics load numbers.csv

    A row has platform, platform_id (of the post), observed_at (ISO 8601 with zone, or seconds since 1970), and either metric and
    value or one column per metric: views, likes, watch_time_s. Values are cumulative. agent may be left out of known posts.
    """
    settings = Settings()
    where = addresses(settings)
    out = rejects or file.with_name(f"{file.name}.rejects.jsonl")
    state, place = engagement.begin(file, settings.home / "loads", again=again or dry_run)
    if state.finished:
        _tell(state, out, as_json, "was loaded before; --again loads it once more")
        return
    if state.done:
        note(f"going on after row {state.done}")
    resolve = _resolver(where.postgres)
    began = time.monotonic()

    def progress(now: engagement.Load) -> None:
        if not as_json:
            rate = now.done / max(time.monotonic() - began, 0.001)
            note(f"{now.done} rows, {now.rejected} rejected, {rate:.0f} rows/s")

    if dry_run:
        _tell(
            engagement.load(file, resolve, state, place, out, None, progress=progress),
            None,
            as_json,
            "checked; nothing was appended",
        )
    else:
        with Appender(where.kafka, load_topics().only(TOPIC), "chimera-metrics-load") as appender:
            engagement.load(file, resolve, state, place, out, appender, progress=progress)
        _tell(state, out, as_json, "loaded")
    if state.rejected:
        raise typer.Exit(NOT_COUNTED)


def _tell(state: engagement.Load, rejects: Path | None, as_json: bool, what: str) -> None:
    told: dict[str, Any] = {"file": state.file, "rows": state.done, "appended": state.appended, "rejected": state.rejected}
    if state.rejected and rejects is not None:
        told["rejects"] = str(rejects)
    if as_json:
        print_json(told | {"state": what})
    else:
        console().print(pairs(f"{state.file}: {what}", told))


def _resolver(dsn: str) -> engagement.Resolve:
    """Names and posts as the read models know them now, read once."""
    try:
        with psycopg.connect(dsn, connect_timeout=5) as connection:
            agents = connection.execute("SELECT name, agent_id FROM core.agents").fetchall()
            posts = connection.execute(
                "SELECT platform, platform_id, agent_id FROM core.effects WHERE status = 'executed' AND platform_id IS NOT NULL"
            ).fetchall()
    except psycopg.Error as error:
        raise ChimeraError(
            f"metrics load: no read models: {str(error).splitlines()[0]}: start the projector (`chimera up`)"
        ) from error
    by_post = {(platform, post): key for platform, post, key in posts}
    by_name: dict[str, str | None] = {}
    for name, key in agents:
        by_name[name] = None if name in by_name else key  # two tenants may use one name: then the key must be given
        by_name[key] = key

    def resolve(name: str, platform: str, post: str) -> str | None:
        return by_name.get(name) if name else by_post.get((platform, post))

    return resolve
