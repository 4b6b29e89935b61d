"""Takes a consistent cut of a partition that goes on being folded: in small slices, copying what changes before it changes.

The rule not to break: every stream of a cut is as it was at the cut's one offset. Whoever folds therefore calls `before` ahead
of each record, on the thread that also calls `slice`.
"""

from __future__ import annotations

from dataclasses import dataclass

from chimera.events.partition import PartitionFold
from chimera.events.state_codec import state_to_json
from chimera.snapshots.state import AgentState, Cut, Saved, law_to_json


@dataclass
class _Taking:
    """A cut in the making."""

    since: int | None
    next_offset: int
    last_append_ts: int
    unreadable: int
    law: bytes
    count: int
    keys: set[str]
    left: set[str]
    taken: list[AgentState]


class Cutter:
    """What of one partition changed since its last snapshot.

    Args:
        fold: the partition, at an offset that `since` says is in the store, or anywhere when `since` is None.
        since: offset of the snapshot that the fold was restored from; None when it was folded from 0.
        last_append_ts: append time of the last record that is in; 0 when there is none.
    """

    def __init__(self, fold: PartitionFold, since: int | None, last_append_ts: int = 0) -> None:
        self._fold = fold
        self._since = since
        self._dirty: set[str] = set()
        self._last_append_ts = last_append_ts
        self._taking: _Taking | None = None

    @property
    def since(self) -> int | None:
        """Offset of the last snapshot that is known to be in the store."""
        return self._since

    @property
    def behind(self) -> int:
        """Records folded since the last snapshot."""
        return self._fold.next_offset - (self._since or 0)

    def before(self, key: str, append_ts: int) -> None:
        """A record of this stream key is about to be folded."""
        taking = self._taking
        if taking is not None and key in taking.left:
            self._take(taking, key)
        self._dirty.add(key)
        self._last_append_ts = append_ts

    def begin(self) -> None:
        """Start a cut at where the fold stands now."""
        fold = self._fold
        keys = {key for key in self._dirty if fold.state(key) is not None}
        if self._since is None:
            keys = {*fold.agents, *fold.tenants}
        self._taking = _Taking(
            since=self._since,
            next_offset=fold.next_offset,
            last_append_ts=self._last_append_ts,
            unreadable=fold.unreadable,
            law=law_to_json(fold.law),
            count=fold.streams,
            keys=keys,
            left=set(keys),
            taken=[],
        )
        self._dirty = set()

    def slice(self, agents: int) -> Cut | None:
        """Serialise up to so many agents; the cut when it is whole, else None."""
        taking = self._taking
        assert taking is not None, "slice() without begin()"
        for _ in range(min(agents, len(taking.left))):
            self._take(taking, next(iter(taking.left)))
        if taking.left:
            return None
        return Cut(
            partition=self._fold.partition,
            since=taking.since,
            next_offset=taking.next_offset,
            last_append_ts=taking.last_append_ts,
            unreadable=taking.unreadable,
            law=taking.law,
            agents=tuple(taking.taken),
            count=taking.count,
        )

    def ended(self, saved: Saved | None) -> None:
        """What became of the cut; None when it was given up or the store could not be reached: it is owed still."""
        taking, self._taking = self._taking, None
        if taking is None:
            return
        if saved is Saved.KEPT:
            self._since = taking.next_offset
            return
        self._dirty |= taking.keys
        if saved is Saved.GAP:
            self._since = None

    def _take(self, taking: _Taking, key: str) -> None:
        taking.left.discard(key)
        state = self._fold.state(key)
        assert state is not None, "what was there when the cut began stays"
        taking.taken.append(AgentState(key, state_to_json(state)))
