"""`chimera media`: what the media store keeps, whether it is sound, and a way to take a copy out.

The rule not to break: nothing here deletes or changes a file of the store.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from chimera.cli import output
from chimera.cli.options import JsonOption
from chimera.errors import ChimeraError
from chimera.media.place import open_media
from chimera.media.store import Asset, MediaStore
from chimera.settings import Settings

app = typer.Typer(help="Pictures and films that were collected, by their hashes.", no_args_is_help=True)


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
def verify(as_json: JsonOption = False) -> None:
    """Read every file again and compare it with its name. Exit 1 where one is damaged."""
    sound, damaged = asyncio.run(_store().verify())
    if as_json:
        output.print_json({"sound": sound, "damaged": [{"name": each.name, "what": each.what} for each in damaged]})
    else:
        output.console().print(f"{sound} files are what they are called, {len(damaged)} are damaged")
        for each in damaged:
            output.console().print(f"  {each.what}")
    if damaged:
        raise typer.Exit(output.FAILURE)


@app.command()
def get(
    sha256: Annotated[str, typer.Argument(metavar="SHA256", help="A file's hash, or its beginning.")],
    to: Annotated[Path, typer.Option("--to", help="Where to write the copy; a file that is there is not overwritten.")],
) -> None:
    """Take a verified copy of one file out.

    Example: chimera media get 3f9a --to picture.png
    """
    found = [asset for asset in _store().assets() if asset.sha256.startswith(sha256)]
    if len(found) != 1:
        raise ChimeraError(f"{len(found)} files begin with '{sha256}': see `chimera media list`")
    if to.exists():
        raise ChimeraError(f"{to} is there already: choose another name")
    to.write_bytes(asyncio.run(_store().get(found[0])))
    output.console().print(f"{to}: {_told(found[0])}")


def _told(asset: Asset) -> str:
    return f"{asset.media_type}, {asset.size} bytes"


def _store() -> MediaStore:
    settings = Settings()
    return open_media(settings.home, settings.media)
