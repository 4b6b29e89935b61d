"""The records that reports are made from, each with its proof: from an export that lies here, or from log and notary.

The rule not to break: a record is shown with a proof that was checked, or not at all.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chimera.audit import proof, tlog
from chimera.audit.leaf import leaf_of
from chimera.audit.lines import parse
from chimera.audit.manifest import ManifestTrouble, load_manifest
from chimera.audit.notary import directory_of, load_notary_keys, origin_of, signed_checkpoint
from chimera.audit.note import Verifier
from chimera.audit.partition import NotSigned, file_of
from chimera.audit.proof import Proof
from chimera.audit.source import TOPICS, Source
from chimera.audit.tree import CHECKPOINT, StoredTree
from chimera.commands.keys import load_installation
from chimera.events.envelope import Record
from chimera.events.headers import signature
from chimera.events.raw import RawRecord
from chimera.events.state import Ruling
from chimera.projections.folding import new_fold

LOG, SECURITY = TOPICS[0].name, TOPICS[2].name


class Page(NamedTuple):
    """A record of the log with its ruling; `raw` is what its proof is made from."""

    raw: RawRecord
    record: Record
    ruling: Ruling


@dataclass(frozen=True)
class Book:
    """The log as signed. `sizes`: partition -> leaves that are signed; `read` gives a partition's records up to there."""

    installation: str
    root_public: str
    publics: tuple[bytes, ...]
    sizes: Mapping[int, int]
    read: Callable[[int], Iterator[RawRecord]]
    tree: Callable[[int], Path]
    whence: str
    """Where it comes from, for people."""

    def pages(self, partition: int) -> Iterator[Page]:
        """A partition's records with their rulings, folded from the first on."""
        fold = new_fold(partition, len(self.sizes), self.root_public)
        for raw in self.read(partition):
            yield Page(raw, *fold.apply(raw))

    def all_pages(self) -> Iterator[Page]:
        """Every partition's, one after the other."""
        for partition in sorted(self.sizes):
            yield from self.pages(partition)

    def prove(self, raw: RawRecord) -> Proof:
        """The checked proof of a record. Raises `BadProof`, `BadNote`, `TreeDamaged`."""
        directory, size = self.tree(raw.partition), self.sizes[raw.partition]
        path = tlog.inclusion_proof(raw.offset, size, StoredTree(directory, size).hash)
        made = Proof(raw.offset, leaf_of(raw), path, (directory / CHECKPOINT).read_bytes())
        origin = origin_of(self.installation, LOG, raw.partition)
        proof.check(made, [Verifier(origin, public) for public in self.publics], raw)
        return made


def live_book(source: Source, home: Path) -> Book:
    """The log itself, as far as the notary signed it. Raises `KeyTrouble`, `BadNote`, `NotSigned`."""
    installed, keys = load_installation(home), load_notary_keys(home)
    sizes: dict[int, int] = {}
    for partition in source.ends(LOG):
        origin = origin_of(installed.installation, LOG, partition)
        found = signed_checkpoint(directory_of(home, LOG, partition), origin, keys.verifiers(origin))
        sizes[partition] = 0 if found is None else found.size
    if not any(sizes.values()):
        raise NotSigned("nothing is signed yet: is `chimera run notary` running?")

    def read(partition: int) -> Iterator[RawRecord]:
        for batch in source.read(LOG, partition, sizes[partition]):
            yield from batch

    publics = tuple(key.public_key().public_bytes_raw() for key in keys.keys)
    trees: Callable[[int], Path] = lambda partition: directory_of(home, LOG, partition)  # noqa: E731
    return Book(
        installed.installation, installed.root_public, publics, sizes, read, trees, "the log, as far as the notary signed it"
    )


def book_of(directory: Path, keys: Sequence[bytes] = ()) -> Book:
    """An export that holds the log whole, as JSON lines. `keys`: the notary's that are trusted; else those that it names.

    Raises `ManifestTrouble` for one that does not. Whether it is intact is told by `verify`, not here.
    """
    manifest = load_manifest(directory)
    if "jsonl" not in manifest.formats or not manifest.selection.whole or manifest.selection.from_ms is not None:
        raise ManifestTrouble(f"{directory} does not hold the whole log as JSON lines: export without a filter for this")
    parts = next(topic.partitions for topic in manifest.topics if topic.topic == LOG)

    def read(partition: int) -> Iterator[RawRecord]:
        with (directory / file_of(LOG, partition, "jsonl")).open("rb") as file:
            for text in file:
                yield parse(text.removesuffix(b"\n"), LOG)[0]

    return Book(
        manifest.installation,
        manifest.root_public,
        tuple(keys) or tuple(base64.b64decode(text) for text in manifest.notary),
        {part.partition: part.size for part in parts},
        read,
        lambda partition: directory / "trees" / LOG / str(partition),
        f"export {directory.name} by {manifest.software}",
    )


def noted_in(directory: Path) -> Iterator[RawRecord]:
    """The records of `chimera.security` of an export; none of an export that holds no JSON lines of it."""
    for path in sorted(directory.glob(f"records/{SECURITY}-*.jsonl")):
        with path.open("rb") as file:
            for text in file:
                yield parse(text.removesuffix(b"\n"), SECURITY)[0]


def signed_by(page: Page) -> str:
    """The id of the key whose signature over the record was verified; empty where there is none."""
    claimed = signature(page.raw)
    return page.record.signed_by or "" if claimed is not None else ""
