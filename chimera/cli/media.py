"""`chimera media`: what the media store keeps, whether it is sound, copies out of it, and letting go what nobody needs.

The rule not to break: only `gc` deletes; it asks, and what a record names goes by a rule of the settings or not at all.
"""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import orjson
import psycopg
import typer

from chimera.cli import output
from chimera.cli.bars import showing
from chimera.cli.options import JsonOption, YesOption
from chimera.errors import ChimeraError
from chimera.media.facts import facts_of, thumbnail
from chimera.media.lifecycle import ORPHAN_DAYS, LetGo, Standing, let_go
from chimera.media.place import open_media, place_of
from chimera.media.store import Asset, Damage, MediaError, MediaStore
from chimera.projections import read
from chimera.projections.media import standings
from chimera.settings import Settings
from chimera.stack.addresses import StackDown, load

app = typer.Typer(help="Pictures and films that were collected, by their hashes.", no_args_is_help=True)
FileArgument = Annotated[str, typer.Argument(metavar="SHA256", help="A file's hash, or its beginning.")]
LIST = "media.jsonl"
"""Beside the files of an export: what they are."""
LEFT_OVER_HOURS = 24


@app.command("list")
def list_(as_json: JsonOption = False) -> None:
    """Every file: hash, type, size in bytes."""
    rows = [{"sha256": asset.sha256, "type": asset.media_type, "bytes": asset.size} for asset in _store().assets()]
    if as_json:
        output.print_json({"media": rows})
        return
    cells = [(row["sha256"], row["type"], row["bytes"]) for row in rows]
    output.console().print(output.table(f"{len(rows)} files", ("sha256", "type", "bytes"), cells))


@app.command()
def stats(as_json: JsonOption = False) -> None:
    """How many files of which type, and how much they take."""
    store = _store()
    files: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for asset in store.assets():
        files[asset.media_type] += 1
        sizes[asset.media_type] += asset.size
    if as_json:
        output.print_json({"store": store.name, "types": {name: {"files": files[name], "bytes": sizes[name]} for name in files}})
        return
    cells = [(name, files[name], f"{sizes[name] / 1e6:.1f}") for name in sorted(files)]
    output.console().print(output.table(f"media in {store.name}", ("type", "files", "MB"), cells))


@app.command()
def show(sha256: FileArgument, as_json: JsonOption = False) -> None:
    """What one file is: size in pixels, length, codecs, and what the read models know of it.

    Example: chimera media show 3f9a
    """
    store = _store()
    asset = _found(store, sha256)
    body = asyncio.run(store.get(asset))
    told = {"sha256": asset.sha256, "type": asset.media_type, "bytes": asset.size, **facts_of(asset, io.BytesIO(body)).to_json()}
    known = _known(Settings())
    if known is not None:
        standing = known.get(asset.sha256)
        told["roles"] = sorted(standing.roles) if standing else []
        told["needed"] = standing.needed if standing else False
    if as_json:
        output.print_json(told)
        return
    output.console().print(output.pairs(asset.name, {name: value for name, value in told.items() if value not in (None, "")}))


@app.command()
def verify(as_json: JsonOption = False) -> None:
    """Read every file again and compare it with its name; name what records tell of and is not here. Exit 1 for either."""
    store, settings = _store(), Settings()
    assets = list(store.assets())
    with showing("reading media") as bar:
        damaged = asyncio.run(_checked(store, assets, bar))
    known = _known(settings)
    gone = asyncio.run(_noted(store)) if known else {}
    here = {asset.sha256 for asset in assets}
    missing = sorted(known.keys() - here - gone.keys()) if known is not None else []
    if as_json:
        output.print_json(
            {
                "store": store.name,
                "sound": len(assets) - len(damaged),
                "damaged": [{"name": each.name, "what": each.what} for each in damaged],
                "missing": missing if known is not None else None,
                "let_go": len(gone),
            }
        )
    else:
        out = output.console()
        out.print(f"{len(assets) - len(damaged)} files are what they are called, {len(damaged)} are damaged")
        for each in damaged:
            out.print(f"  {each.what}")
        for sha256 in missing:
            out.print(f"  {sha256} is named by records and is not in {store.name}: restore it from a copy")
        if known is None:
            output.note("the read models do not answer, so nobody knows what is missing")
    if damaged or missing:
        raise typer.Exit(output.FAILURE)


@app.command()
def get(
    sha256: FileArgument,
    to: Annotated[Path, typer.Option("--to", help="Where to write the copy; a file that is there is not overwritten.")],
    thumb: Annotated[bool, typer.Option("--thumb", help="A small JPEG of it instead.")] = False,
) -> None:
    """Take a verified copy of one file out.

    Example: chimera media get 3f9a --to picture.png
    """
    store = _store()
    asset = _found(store, sha256)
    if to.exists():
        raise ChimeraError(f"{to} is there already: choose another name")
    if thumb:
        body = asyncio.run(store.get(asset))
        to.write_bytes(thumbnail(asset, io.BytesIO(body)))
    else:
        asyncio.run(store.save(asset, to))
    output.console().print(f"{to}: {_told(asset)}")


@app.command()
def export(
    out: Annotated[Path, typer.Option("--out", help="A folder; what is there already and right is left as it is.")],
    as_json: JsonOption = False,
) -> None:
    """Take verified copies of all files out, with a list of what they are (media.jsonl). Given again, it goes on.

    Example: chimera media export --out backup/media
    """
    store = _store()
    out.mkdir(parents=True, exist_ok=True)
    assets, known = list(store.assets()), _known(Settings()) or {}
    copied, lines = 0, []
    with showing("copying media") as bar:
        for number, asset in enumerate(assets, 1):
            place = out / asset.name
            if not place.exists() or place.stat().st_size != asset.size:
                asyncio.run(store.save(asset, place))
                copied += 1
            standing = known.get(asset.sha256)
            roles = sorted(standing.roles) if standing else []
            lines.append(orjson.dumps({"sha256": asset.sha256, "type": asset.media_type, "bytes": asset.size, "roles": roles}))
            bar(number, len(assets))
    (out / LIST).write_bytes(b"".join(line + b"\n" for line in lines))
    if as_json:
        output.print_json({"out": str(out), "files": len(assets), "copied": copied})
        return
    output.console().print(f"{out}: {len(assets)} files, {copied} of them copied now; {LIST} says what they are")


@app.command()
def gc(
    older: Annotated[int, typer.Option("--older", min=1, help="Days that a file which no record names is kept.")] = ORPHAN_DAYS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let go what no record names, and what the setting `media_keep` (days by role) lets go; then what never arrived whole.

    Nothing goes that an open card, call or campaign needs or a standing post shows. Example: chimera media gc --dry-run
    """
    store, settings = _store(), Settings()
    plan = _plan(store, settings, older)
    now = datetime.now(UTC)
    parts = [(path, size) for path, size, at in store.left_over() if (now - at).total_seconds() > LEFT_OVER_HOURS * 3600]
    _tell(plan, parts, dry_run, as_json)
    if dry_run or not (plan or parts):
        return
    if not yes and not as_json:
        typer.confirm(f"delete {len(plan)} files and {len(parts)} parts from {store.name}?", abort=True, err=True)
        still = {each.asset for each in _plan(store, settings, older)}  # who was asked may have thought for long
        plan = [each for each in plan if each.asset in still]
    asyncio.run(_let_go(store, plan, [path for path, _ in parts]))


def _plan(store: MediaStore, settings: Settings, older: int) -> list[LetGo]:
    """What may go as things are now. Raises ChimeraError where the read models do not know that yet."""
    addresses = load(settings)
    behind = sum(read.lag(addresses.postgres, addresses.kafka).values())
    if behind:
        raise ChimeraError(f"the read models are {behind} records behind the log, and do not know yet what is needed: try again")
    return let_go(store.kept(), standings(addresses.postgres), settings.media_keep, datetime.now(UTC), older)


def _tell(plan: list[LetGo], parts: list[tuple[str, int]], dry_run: bool, as_json: bool) -> None:
    rows = [{"name": each.asset.name, "bytes": each.asset.size, "why": each.why} for each in plan]
    rows += [{"name": path, "bytes": size, "why": f"it never got a name in {LEFT_OVER_HOURS} hours"} for path, size in parts]
    freed = sum(each.asset.size for each in plan) + sum(size for _, size in parts)
    if as_json:
        output.print_json({"dry_run": dry_run, "files": rows, "bytes": freed})
        return
    cells = [(row["name"], row["bytes"], row["why"]) for row in rows]
    verb = "would go" if dry_run else "go"
    output.console().print(output.table(f"{len(rows)} files {verb}, {freed} bytes", ("file", "bytes", "why"), cells))


async def _let_go(store: MediaStore, plan: list[LetGo], parts: list[str]) -> None:
    await store.settle()
    for each in plan:
        if not await store.let_go(each.asset, each.put, each.why):
            output.note(f"{each.asset.name} stays: it was put again meanwhile")
    for path in parts:
        await store.remove(path)


async def _noted(store: MediaStore) -> Mapping[str, str]:
    return await store.gone()


async def _checked(store: MediaStore, assets: list[Asset], bar: Callable[[int, int], None]) -> list[Damage]:
    found = []
    for number, asset in enumerate(assets, 1):
        damage = await store.check(asset)
        if damage is not None:
            found.append(damage)
        bar(number, len(assets))
    return found


def _found(store: MediaStore, sha256: str) -> Asset:
    found = [asset for asset in store.assets() if asset.sha256.startswith(sha256)]
    if len(found) != 1:
        raise MediaError(f"{len(found)} files begin with '{sha256}': see `chimera media list`")
    return found[0]


def _known(settings: Settings) -> Mapping[str, Standing] | None:
    """What the read models know; None where they do not answer."""
    try:
        return standings(load(settings).postgres)
    except (StackDown, psycopg.OperationalError, psycopg.errors.UndefinedTable):
        return None


def _told(asset: Asset) -> str:
    return f"{asset.media_type}, {asset.size} bytes"


def _store() -> MediaStore:
    """Raises MediaError where it is a directory that is not there: looking makes none."""
    settings = Settings()
    place = place_of(settings.home, settings.media)
    if isinstance(place, Path) and not place.is_dir():
        raise MediaError(f"nothing was ever kept in {place}: `chimera up` makes it, or name another home by --home")
    return open_media(settings.home, settings.media)
