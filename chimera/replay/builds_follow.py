"""A build that keeps up with the log beside the live read models, to any offset exactly.

The rule not to break: what lies beyond the offset asked for is read and kept, never written.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from chimera.errors import ChimeraError
from chimera.eventlog.read import CheckpointAhead, Reader
from chimera.events.envelope import key_id
from chimera.events.raw import RawRecord
from chimera.projections.checkpoints import MODEL_SET, open_checkpoints
from chimera.projections.cuts import cuts_of_build
from chimera.projections.engine import Projector
from chimera.projections.parts import make_ahead
from chimera.replay.builds import Build, Database
from chimera.replay.builds_load import writer_of
from chimera.replay.plan import Ends, Refused
from chimera.replay.survey import Where, ends

BATCH = 5_000
NO_PROGRESS_S = 60.0


class Tail:
    """One topic read on by `reader`; what came too early waits here."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._early: list[RawRecord] = []

    def read(self, until: Mapping[int, int] | None, timeout_s: float) -> list[RawRecord]:
        """What has arrived, below `until` where it is given, in order within each partition."""
        raws, self._early = self._early, []
        if until is None:
            return raws + (self._reader.read(BATCH, 0 if raws else timeout_s) if len(raws) < BATCH else [])
        if any(position < until.get(p, 0) for p, position in self._reader.positions.items()):
            raws += self._reader.read(BATCH, timeout_s)
        self._early = [raw for raw in raws if raw.offset >= until.get(raw.partition, 0)]
        return [raw for raw in raws if raw.offset < until.get(raw.partition, 0)]

    def close(self) -> None:
        """Let the connections go."""
        self._reader.close()


class Follower:
    """Writes one build on. Opening takes up the fold at the build's cut, or folds from 0 what its rows are made of."""

    def __init__(self, where: Where, build: Build) -> None:
        self.where, self.build = where, build
        self._database = Database(where.dsn)
        self._cuts = cuts_of_build(where.dsn, where.bootstrap, where.log, key_id(where.root_public), build.id)
        self._projector = Projector(
            where.bootstrap, where.dsn, where.root_public, schema=build.schema, topic=where.log, cuts=self._cuts
        )
        self.written: dict[str, dict[int, int]] = {}
        """Topic -> partition -> next offset to write."""
        self._tails: dict[str, Tail] = {}
        self._database.do(lambda c: make_ahead(c, build.schema))
        self._projector.open(live=False)
        self.written[where.log] = dict(self._projector.positions)
        now = ends(where)
        for topic, model_set in where.topics.items():
            if model_set != MODEL_SET:
                self.written[topic] = self._checkpoints(topic, model_set, now[topic])
            start = self._projector.folded if model_set == MODEL_SET else self.written[topic]
            self._tails[topic] = Tail(Reader(where.bootstrap, topic, start, client_id="chimera-replay"))

    def _checkpoints(self, topic: str, model_set: str, ends_now: Mapping[int, int]) -> dict[int, int]:
        found = self._database.do(lambda c: open_checkpoints(c, self.build.schema, model_set, topic, ends_now))
        for partition, offset in found.items():
            if offset > ends_now[partition]:
                raise CheckpointAhead(topic, partition, offset, ends_now[partition])
        return found

    def step(self, until: Ends | None = None, timeout_s: float = 0.05) -> int:
        """Write what has arrived, below `until` where it is given; how many records.

        Raises `ChimeraError` where a partition stops.
        """
        done = 0
        for topic, model_set in self.where.topics.items():
            raws = self._tails[topic].read(None if until is None else until.get(topic, {}), timeout_s / len(self._tails))
            done += len(raws)
            if not raws:
                continue
            if model_set == MODEL_SET:
                self._projector.take(raws)
                self._projector.flush()
                self.written[topic] = dict(self._projector.positions)
                if self._projector.progress.stopped:
                    raise ChimeraError(f"build {self.build.id}: {next(iter(self._projector.progress.stopped.values()))}")
            else:
                self._write(topic, model_set, raws)
        return done

    def _write(self, topic: str, model_set: str, raws: list[RawRecord]) -> None:
        self._database.do(lambda c: writer_of(model_set)(c, self.build.schema, raws))
        for raw in raws:
            self.written[topic][raw.partition] = raw.offset + 1

    def lags(self, until: Ends) -> int:
        """Records below these offsets that are not written."""
        return sum(max(0, end - self.written[topic].get(p, 0)) for topic, of in until.items() for p, end in of.items())

    def beyond(self, at: Ends) -> int:
        """Records written at or beyond these offsets."""
        return sum(max(0, self.written[topic].get(p, 0) - end) for topic, of in at.items() for p, end in of.items())

    def reach(
        self, until: Ends, *, exactly: bool = False, deadline_s: float | None = None, tell: Callable[[int], None] = lambda _: None
    ) -> bool:
        """Write up to these offsets (`exactly`: and not beyond). False where `deadline_s` was over before.

        Raises `ChimeraError` when nothing moves for a minute.
        """
        began = moved_at = time.monotonic()
        while self.lags(until):
            now = time.monotonic()
            if deadline_s is not None and now - began > deadline_s:
                return False
            if self.step(until if exactly else None):
                moved_at = time.monotonic()
                tell(self.lags(until))
            elif now - moved_at > NO_PROGRESS_S:
                raise ChimeraError(
                    f"build {self.build.id} makes no progress {self.lags(until)} records before its aim: is Kafka up?"
                )
        return True

    def keep_up(self, limit: int, *, deadline_s: float, tell: Callable[[int], None] = lambda _: None) -> int:
        """Follow until at most `limit` records of the log are missing; how many are.

        Raises `Refused` when it does not get there in time.
        """
        deadline = time.monotonic() + deadline_s
        while True:
            now = ends(self.where)
            left = self.lags(now)
            if left <= limit:
                return left
            self.reach(now, deadline_s=max(1.0, deadline - time.monotonic()), tell=tell)
            if time.monotonic() > deadline:
                raise Refused(
                    f"build {self.build.id} is still {self.lags(ends(self.where))} records behind the log after {deadline_s:g} s"
                    f" (limit {limit}), which grows faster than it is followed. Try again when less is going on, or raise --max-lag"
                    " or --patience"
                )

    def save(self) -> None:
        """Keep the fold, so that whoever follows next goes on from here."""
        self._projector.save_cuts()

    def close(self) -> None:
        """Let everything go; what was written stays."""
        for tail in self._tails.values():
            tail.close()
        self._projector.close()
        self._cuts.close()
        self._database.close()


@contextmanager
def following(where: Where, build: Build) -> Iterator[Follower]:
    """A follower that is closed in the end."""
    follower = Follower(where, build)
    try:
        yield follower
    finally:
        follower.close()
