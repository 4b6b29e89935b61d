"""The notary: follows the log's bytes, keeps a tree per partition, and signs what it saw. `chimera run notary`.

The one rule: it signs only trees that extend what it signed before. Bytes that read differently now, or a log that lost its end,
stop it with the record's name; nothing is signed over them.
"""

from __future__ import annotations

import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from chimera import failpoints
from chimera.audit.leaf import leaf_of
from chimera.audit.note import BadNote, Checkpoint, Verifier, open_checkpoint, sign
from chimera.audit.tlog import WIDTH, leaf_hash
from chimera.audit.tree import CHECKPOINT, StoredTree, TreeDamaged, TreeWriter
from chimera.commands.keys import KeyTrouble, create_private, load_installation, read_key
from chimera.errors import ChimeraError
from chimera.eventlog.read import CheckpointAhead, LogHole, Reader, end_offsets, read_until
from chimera.events.raw import RawRecord

log = logging.getLogger(__name__)

TOPICS = ("chimera.log", "chimera.calls", "chimera.security")
SIGN_EVERY_S = 2.0
LOOK_BACK = WIDTH
"""Records per partition whose bytes are compared with what was signed, when the notary starts."""


class LogChanged(ChimeraError):
    """The log's bytes are not those that were signed."""


class NotaryKeys(NamedTuple):
    """Who signs: the present key, and the one before while both do."""

    keys: tuple[Ed25519PrivateKey, ...]

    def signers(self, origin: str) -> list[tuple[str, Ed25519PrivateKey]]:
        """Name and key of each signature under a checkpoint of this origin: the name of a log's key is its origin."""
        return [(origin, key) for key in self.keys]

    @property
    def publics(self) -> list[bytes]:
        """Their public halves, the present one first."""
        return [key.public_key().public_bytes_raw() for key in self.keys]

    def verifiers(self, origin: str) -> list[Verifier]:
        """Whose signatures are known."""
        return [Verifier(origin, public) for public in self.publics]


def key_paths(home: Path) -> tuple[Path, Path]:
    """Where the notary's present key lies, and the one that still signs beside it after a rotation."""
    return home / "keys" / "notary.key", home / "keys" / "notary.before.key"


def load_notary_keys(home: Path) -> NotaryKeys:
    """The keys that sign. Raises `KeyTrouble` where there is none, or one that others may read."""
    present, before = key_paths(home)
    if not present.exists():
        raise KeyTrouble(f"{present} is missing: make one with `chimera audit keygen`")
    paths = [present, *([before] if before.exists() else [])]
    return NotaryKeys(tuple(Ed25519PrivateKey.from_private_bytes(read_key(path).private_bytes()) for path in paths))


def make_notary_key(home: Path) -> bool:
    """Make the key where there is none; whether one was made. Raises `KeyTrouble`."""
    present, _ = key_paths(home)
    if present.exists():
        read_key(present)
        return False
    present.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    create_private(present, Ed25519PrivateKey.generate().private_bytes_raw())
    return True


def rotate_notary_key(home: Path) -> None:
    """Another key signs from now on, and the present one beside it until `retire_notary_key`. Raises `KeyTrouble`."""
    present, before = key_paths(home)
    if before.exists():
        raise KeyTrouble(f"{before} still signs from the rotation before: end that first by `chimera audit keygen --retire`")
    read_key(present)
    draft = present.with_suffix(".key.next")
    if not draft.exists():
        create_private(draft, Ed25519PrivateKey.generate().private_bytes_raw())
    create_private(before, present.read_bytes())
    draft.replace(present)


def retire_notary_key(home: Path) -> None:
    """The key before the present one signs no more.

    Raises `KeyTrouble` where there is none, and where a tree is signed by it alone: nobody could tell any more whose tree that is.
    """
    _, before = key_paths(home)
    if not before.exists():
        raise KeyTrouble(f"there is no {before}: no rotation is under way")
    present = load_notary_keys(home).publics[0]
    for path in sorted((home / "audit").glob(f"*/*/{CHECKPOINT}")):
        if not _is_signed(path.read_bytes(), present):
            raise KeyTrouble(
                f"{path} is not signed by the present key yet: let the notary run for some seconds (`chimera run notary`)"
            )
    before.unlink()


def _is_signed(note: bytes, public: bytes) -> bool:
    try:
        open_checkpoint(note, [Verifier(note.decode(errors="replace").partition("\n")[0], public)])
    except BadNote:
        return False
    return True


def origin_of(installation: str, topic: str, partition: int) -> str:
    """Whose tree it is: the first line of its checkpoints, and the name of the key that signs them."""
    return f"{installation}/{topic}/{partition}"


def directory_of(home: Path, topic: str, partition: int) -> Path:
    """Where the tree of a partition lies."""
    return home / "audit" / topic / str(partition)


def signed_checkpoint(directory: Path, origin: str, verifiers: Sequence[Verifier]) -> Checkpoint | None:
    """The newest checkpoint of a tree, None where nothing was signed yet. Raises `BadNote` for one that does not verify."""
    try:
        note = (directory / CHECKPOINT).read_bytes()
    except FileNotFoundError:
        return None
    found = open_checkpoint(note, verifiers)
    if found.origin != origin:
        raise BadNote(f"{directory / CHECKPOINT} is of {found.origin}, not of {origin}")
    return found


class Notary:
    """The trees of one topic. For one thread.

    Constructing loads every tree and compares the newest records with what was signed. Raises `KeyTrouble`, `BadNote`,
    `TreeDamaged`, `LogChanged`, and what reading raises.
    """

    def __init__(self, bootstrap: str, home: Path, topic: str, *, prefix: str = "") -> None:
        self._bootstrap, self._home, self.topic = bootstrap, home, topic
        self._source = prefix + topic
        self._installation = load_installation(home).installation
        self._keys = load_notary_keys(home)
        self._due = set[int]()
        """Partitions whose tree is to be signed though it did not grow: the keys are not those that signed it."""
        ends = end_offsets(bootstrap, self._source)
        self.writers = {partition: self._open(partition) for partition in ends}
        self._compare(ends)
        start = {partition: writer.next_index for partition, writer in self.writers.items()}
        self._reader = Reader(bootstrap, self._source, start, client_id="chimera-notary")
        self._signed_at = time.monotonic()

    def _open(self, partition: int) -> TreeWriter:
        origin = origin_of(self._installation, self.topic, partition)
        writer = TreeWriter(directory_of(self._home, self.topic, partition), origin)
        found = signed_checkpoint(writer.directory, origin, self._keys.verifiers(origin))
        if found is not None:
            writer.load(found)
            if not _is_signed((writer.directory / CHECKPOINT).read_bytes(), self._keys.publics[0]):
                self._due.add(partition)
        return writer

    def _compare(self, ends: Mapping[int, int]) -> None:
        """The newest records that were signed must still be the same bytes."""
        sizes = {partition: writer.size for partition, writer in self.writers.items() if writer.size}
        for partition, size in sizes.items():
            if ends[partition] < size:
                raise LogChanged(
                    f"{self._source}[{partition}] ends at {ends[partition]}, but {size} records of it were signed: the log lost "
                    "its end, or this is another cluster. Nothing is signed until it is restored"
                )
        start = {partition: max(0, size - LOOK_BACK) for partition, size in sizes.items()}
        compare(self._bootstrap, self._home, self.topic, sizes, start, source=self._source)

    def step(self, timeout_s: float = 0.2) -> int:
        """Take in what came; sign where it is time. How many records came. Raises what reading and writing raise."""
        batch = self._reader.read(2000, timeout_s)
        for raw in batch:
            self.writers[raw.partition].extend(leaf_of(raw))
        if batch:
            failpoints.here("notary.taken")
        if time.monotonic() - self._signed_at >= SIGN_EVERY_S:
            self.sign()
        return len(batch)

    def sign(self) -> int:
        """Sign every tree that grew, and by new keys, which are taken up here, all of them; how many."""
        self._signed_at = time.monotonic()
        before, self._keys = self._keys.publics, load_notary_keys(self._home)
        if self._keys.publics != before:
            self._due = {partition for partition, writer in self.writers.items() if writer.next_index}
        due = [partition for partition, writer in self.writers.items() if writer.next_index > writer.size or partition in self._due]
        for partition in due:
            writer = self.writers[partition]
            writer.commit(sign(writer.checkpoint().text, self._keys.signers(writer.origin)))
            self._due.discard(partition)
        return len(due)

    def behind(self) -> int:
        """Records taken in and not signed yet."""
        return sum(writer.next_index - writer.size for writer in self.writers.values())

    def signed(self) -> int:
        """Records signed."""
        return sum(writer.size for writer in self.writers.values())

    def close(self) -> None:
        """Let the connections go. What was not signed is taken in again by the next one."""
        self._reader.close()


def compare(
    bootstrap: str,
    home: Path,
    topic: str,
    sizes: Mapping[int, int],
    start: Mapping[int, int],
    *,
    source: str = "",
    progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Compare the log's bytes from `start` up to what was signed (`sizes`) with the signed leaves; how many records.

    Raises `LogChanged` naming the record, `TreeDamaged` where the tree's own files are at fault, and what reading raises.
    """
    trees = {partition: StoredTree(directory_of(home, topic, partition), size) for partition, size in sizes.items()}
    read = 0
    try:
        for batch in read_until(bootstrap, source or topic, sizes, start, sizes):
            for raw in batch:
                _same(trees[raw.partition], raw)
            read += len(batch)
            progress(read)
    except (LogHole, CheckpointAhead) as error:
        raise LogChanged(f"records that were signed are gone: {error}") from error
    return read


def _same(tree: StoredTree, raw: RawRecord) -> None:
    entry, now = tree.entry(raw.offset), leaf_of(raw)
    if entry == now:
        return
    if tree.hash(0, raw.offset) != leaf_hash(entry):
        raise TreeDamaged(f"entry {raw.offset} below {tree.directory} is not what its tile says: restore the file from a copy")
    was, told = orjson.loads(entry), orjson.loads(now)
    names = ", ".join(name for name in was if was[name] != told.get(name))
    raise LogChanged(
        f"{raw.topic}[{raw.partition}]@{raw.offset} reads differently from what was signed ({names}); it was {was['type']} "
        f"{was['id']}. The log was tampered with or damaged: nothing is signed until it is restored"
    )


@contextmanager
def alone(home: Path, patience_s: float, stop: threading.Event | None = None) -> Iterator[bool]:
    """Be the only one that extends the trees of this home; False where another is for so long. The lock ends with the process."""
    path = home / "audit" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + patience_s
    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline or (stop is not None and stop.is_set()):
                    yield False
                    return
                time.sleep(0.1)
            else:
                yield True
                return


def sign_now(
    bootstrap: str, home: Path, *, prefix: str = "", topics: Iterable[str] = TOPICS, patience_s: float = 60.0
) -> dict[str, dict[int, int]]:
    """See to it that everything that is in the log now is signed: by the notary that runs, or here where none does.

    Returns how far that is: topic -> partition -> end offset. Raises `ChimeraError` where a running notary does not get there in
    time, and what `Notary` raises.
    """
    make_notary_key(home)
    deadline = time.monotonic() + patience_s
    due = {topic: end_offsets(bootstrap, prefix + topic) for topic in topics}
    while not all(_reaches(home, topic, ends) for topic, ends in due.items()):
        with alone(home, 0.2) as mine:
            if mine:
                for topic, ends in due.items():
                    _sign_up_to(Notary(bootstrap, home, topic, prefix=prefix), ends)
                return due
        if time.monotonic() > deadline:
            raise ChimeraError(f"a notary runs in {home}, and did not sign what is in the log in {patience_s:g} s: see its log")
    return due


def _reaches(home: Path, topic: str, ends: Mapping[int, int]) -> bool:
    """Are so many records of each partition signed? Looks at sizes alone; whoever uses a tree verifies it."""
    for partition, end in ends.items():
        try:
            note = (directory_of(home, topic, partition) / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            note = b"\n0\n"
        if int(note.split(b"\n")[1]) < end:
            return False
    return True


def _sign_up_to(notary: Notary, ends: Mapping[int, int]) -> None:
    try:
        while any(notary.writers[partition].next_index < end for partition, end in ends.items()):
            notary.step()
        notary.sign()
    finally:
        notary.close()


def follow(
    bootstrap: str,
    home: Path,
    stop: threading.Event,
    told: Callable[[list[Notary]], None],
    topics: Iterable[str] = TOPICS,
    *,
    patience_s: float = 60.0,
) -> None:
    """Take in and sign until `stop`; then sign what came last. `told` hears how it goes, about five times a second.

    Raises `ChimeraError` where another notary signs in this home.
    """
    with alone(home, patience_s, stop) as mine:
        if mine:
            _follow(bootstrap, home, stop, told, topics)
        elif not stop.is_set():
            raise ChimeraError(f"another notary signs the trees of {home}: one is enough, stop it first")


def _follow(bootstrap: str, home: Path, stop: threading.Event, told: Callable[[list[Notary]], None], topics: Iterable[str]) -> None:
    notaries = [Notary(bootstrap, home, topic) for topic in topics]
    try:
        while not stop.is_set():
            for notary in notaries:
                notary.step(0.2 / len(notaries))
            told(notaries)
        for notary in notaries:
            notary.sign()
    finally:
        for notary in notaries:
            notary.close()
