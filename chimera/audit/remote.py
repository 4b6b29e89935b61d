"""`audit export --out s3://bucket/prefix`: an export that is finished here is put there, and read back before it counts.

The rule not to break: the manifest is put last, so a place without it holds no export; what is there already is never written over.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import ObjectStore, S3Store

from chimera.audit.manifest import ENVELOPE, MANIFEST, PLAN, SUMS
from chimera.ending import end_in_order
from chimera.errors import ChimeraError

SCHEME = "s3://"
AT_ONCE = 16
"""Objects under way at a time: most are tiles of 8 KiB, and what they cost is the way there and back."""
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REFUSALS = ("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken")
_WAYS = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    ("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)


class RemoteTrouble(ChimeraError):
    """A bucket that cannot be reached, is refused, or holds something else; the text says which and the way out."""


class Place(NamedTuple):
    """Where an export goes. `prefix` has no slash at its ends."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.prefix}"


class Sent(NamedTuple):
    """How many objects were put, and how many were there already, by an attempt that was cut off."""

    put: int
    kept: int


def place_of(url: str) -> Place:
    """`s3://bucket/prefix`. Raises `RemoteTrouble` for a bucket without a prefix: an export is never strewn over a whole bucket."""
    parts = urlsplit(url)
    prefix = parts.path.strip("/")
    if not parts.netloc or not prefix or parts.query or parts.fragment or {"", ".", ".."} & set(prefix.split("/")):
        raise RemoteTrouble(f"{url} is no place for an export: write s3://bucket/prefix")
    return Place(parts.netloc, prefix)


def open_place(place: Place, environ: Mapping[str, str] = os.environ) -> S3Store:
    """The place; credentials, region and endpoint are those of the `AWS_...` variables. Raises `RemoteTrouble`."""
    if not any(all(environ.get(name) for name in way) for way in _WAYS):
        raise RemoteTrouble(
            f"{place}: no credentials are in the environment: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY "
            "(and AWS_REGION, or AWS_ENDPOINT_URL for a server that is not Amazon's)"
        )
    end_in_order()
    with _told(str(place)):
        return S3Store(place.bucket, prefix=place.prefix, retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=60)})


def stage_of(home: Path, place: Place, asked: str) -> Path:
    """The directory in which this export is made first: one for each place and what is asked for, so the same call resumes it."""
    return home / "exports" / hashlib.sha256(f"{place}\n{asked}".encode()).hexdigest()[:16]


def is_finished(stage: Path) -> bool:
    """Is the export in this directory whole?"""
    return (stage / MANIFEST).is_file() and not (stage / PLAN).exists()


def require_free(store: ObjectStore, place: object, stage: Path) -> None:
    """Refuse a place that holds anything but what an earlier attempt from this stage put there. Raises `RemoteTrouble`."""
    with _told(str(place)):
        found = {each["path"] for batch in obstore.list(store) for each in batch}
    strange = found - (_expected(stage).keys() if is_finished(stage) else set())
    if MANIFEST in strange:
        raise RemoteTrouble(f"{place} holds a finished export: name another prefix")
    if strange:
        raise RemoteTrouble(f"{place} is not empty ({min(strange)} is there): name another prefix")


def send(store: ObjectStore, place: object, stage: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Sent:
    """Put a finished export there, read every object back, and put the manifest when all others are right.

    An object that is there with the right bytes is not put again. Raises `RemoteTrouble`.
    """
    return asyncio.run(_send(store, place, stage, progress))


async def _send(store: ObjectStore, place: object, stage: Path, progress: Callable[[int, int], None]) -> Sent:
    expected = _expected(stage)
    slots, put, done = asyncio.Semaphore(AT_ONCE), 0, 0
    with _told(str(place)):
        there = {each["path"] for batch in obstore.list(store) for each in batch}

    async def one(name: str) -> None:
        nonlocal put, done
        async with slots:
            with _told(f"{place}/{name}"):
                if name not in there or await _digest(store, name) != expected[name]:
                    await obstore.put_async(store, name, stage / name)
                    put += 1
                    found = await _digest(store, name)
                    if found != expected[name]:
                        raise RemoteTrouble(
                            f"{place}/{name} reads back with sha256 {found}, not {expected[name]}: give the command again; "
                            f"if it stays so, remove {stage} and what is at {place}"
                        )
        done += 1
        progress(done, len(expected))

    for group in ([name for name in expected if name != MANIFEST], [MANIFEST]):
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in group:
                    tasks.create_task(one(name))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return Sent(put, len(expected) - put)


def _expected(stage: Path) -> dict[str, str]:
    """Every file of a finished export with its SHA-256, the manifest last."""
    listed = (line.partition("  ") for line in (stage / SUMS).read_text().splitlines())
    found = {name: digest for digest, _, name in listed}
    return found | {name: hashlib.sha256((stage / name).read_bytes()).hexdigest() for name in (SUMS, ENVELOPE, MANIFEST)}


async def _digest(store: ObjectStore, name: str) -> str:
    sha = hashlib.sha256()
    async for chunk in (await obstore.get_async(store, name)).stream():
        sha.update(chunk)
    return sha.hexdigest()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """The store's errors as ours, in one line."""
    try:
        yield
    except BaseError as error:
        said = _CODE.search(str(error))  # listing gives every refusal as a general error: what the server said tells them apart
        code = said[1] if said is not None else str(error).splitlines()[0][:300]
        if isinstance(error, PermissionDeniedError | UnauthenticatedError) or code in _REFUSALS:
            raise RemoteTrouble(f"{what}: the server refuses these credentials, or they may not do this ({code})") from None
        if code == "NoSuchBucket":
            raise RemoteTrouble(f"{what}: there is no such bucket: make it first") from None
        raise RemoteTrouble(f"{what}: {code}: put it right and give the same command again, it goes on") from error


__all__ = ["Place", "RemoteTrouble", "Sent", "is_finished", "open_place", "place_of", "require_free", "send", "stage_of"]
