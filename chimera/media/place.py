"""Where the media store is: a directory of the home, another directory, or a bucket of an object store.

The rule not to break: credentials come from the environment by their vendor's own names, and are in no address, log or error.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import GCSStore, ObjectStore, S3Store

from chimera.media.store import MediaError, MediaStore

FOLDER = "media"
"""Below the home, where nothing else is said."""
SCHEMES = ("s3", "gs")
_PATIENCE: Any = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_NONE: Any = {"max_retries": 0}


def open_media(home: Path, where: str | None = None, *, within_s: float | None = None) -> MediaStore:
    """The store at `where`: `s3://bucket/prefix`, `gs://bucket/prefix`, a directory; None: a folder of the home.

    Buckets take their credentials, region and endpoint from the environment (`AWS_...`, `GOOGLE_...`). `within_s`: a bucket is
    asked once and must answer in so many seconds; None: with the patience of whoever works. Raises MediaError for an address
    that is none.
    """
    place = place_of(home, where)
    if isinstance(place, Path):
        return MediaStore(place)
    parts = urlsplit(place)
    prefix = parts.path.strip("/")
    if parts.scheme not in SCHEMES or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise MediaError(f"{_masked(place)} is no place for media: write s3://bucket/prefix, gs://bucket/prefix or a path")
    return MediaStore(_bucket(parts.scheme, parts.netloc, prefix, within_s), place)


def place_of(home: Path, where: str | None) -> Path | str:
    """A directory, or the address of what is none."""
    if where is None:
        return home / FOLDER
    return where if urlsplit(where).scheme else Path(where)


def _bucket(scheme: str, bucket: str, prefix: str, within_s: float | None) -> ObjectStore:
    how: Any = {"retry_config": _PATIENCE}
    if within_s is not None:
        how = {"retry_config": _NONE, "config": {"timeout": f"{within_s:g}s"}}  # `client_options` would undo the environment's
    try:
        return (S3Store if scheme == "s3" else GCSStore)(bucket, prefix=prefix or None, **how)
    except BaseError as error:
        said = str(error).partition("\n")[0]
        raise MediaError(f"the bucket {bucket} cannot be opened with what the environment holds: {said}") from error


def _masked(where: str) -> str:
    """An address without what stands before an `@`: it may be a password."""
    head, at, tail = where.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else where
