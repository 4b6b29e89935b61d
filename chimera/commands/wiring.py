"""How a process comes by a command service, or by the desk of one: settings in, service out.

The rule not to break: only a set-up (`set_up=True`) makes keys or adopts the law; everything else needs them to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

import orjson

from chimera.commands import client
from chimera.commands.client import Client, NoService
from chimera.commands.verbs import Reply, Verb
from chimera.settings import Settings

if TYPE_CHECKING:
    from chimera.commands.following import Observer, Progress
    from chimera.commands.history import History
    from chimera.commands.lookup import Log
    from chimera.commands.service import CommandService
    from chimera.snapshots.state import SnapshotStore

LOG_TOPIC = "chimera.log"
"""The log that the command line works on; tests that share a broker set a name of their own."""


@contextmanager
def open_service(
    settings: Settings,
    *,
    observe: Observer | None = None,
    set_up: bool = False,
    partitions: Iterable[int] | None = None,
    topic: str | None = None,
    from_snapshots: bool = False,
    progress: Progress | None = None,
) -> Iterator[CommandService]:
    """A command service on this installation's log, folded up to its end, closed afterwards.

    `from_snapshots`: begin where the brain's snapshots stand, as far as they are within reach; `observe` then misses what they
    hold. `progress` is told (records folded, records there were) meanwhile.

    Raises `StackDown`, `TopicDrift`, `KeyTrouble` and what reading raises.
    """
    # Here and not above: who asks a running service needs neither Kafka's client nor the fold, whose import takes half a second.
    from chimera.commands.keys import ensure_installation, log_topics
    from chimera.commands.service import CommandService
    from chimera.eventlog.append import Appender
    from chimera.eventlog.cluster import require_topics
    from chimera.stack.addresses import load_kafka

    bootstrap = load_kafka(settings)
    name = topic or LOG_TOPIC
    topics = log_topics(name)
    require_topics(bootstrap, topics, settings.home)
    if set_up:
        with Appender(bootstrap, topics, "chimera-installer") as appender:
            ensure_installation(settings, appender, bootstrap, name)
    store = snapshot_store(settings) if from_snapshots else None
    with CommandService(bootstrap, settings, observe=observe, topic=name, partitions=partitions, snapshots=store) as service:
        service.catch_up(progress)
        yield service


def open_log(settings: Settings) -> Log:
    """This installation's log, for looking single records up. Raises `StackDown`, `KeyTrouble`."""
    from chimera.commands.keys import load_installation
    from chimera.commands.lookup import Log
    from chimera.stack.addresses import load_kafka

    return Log(load_kafka(settings), LOG_TOPIC, load_installation(settings.home).root_public)


def snapshot_store(settings: Settings) -> SnapshotStore | None:
    """Where snapshots lie; None where no database is known: without them a process folds from offset 0."""
    from chimera.commands.keys import load_installation
    from chimera.snapshots.postgres import PostgresSnapshots
    from chimera.snapshots.state import maker
    from chimera.stack.addresses import StackDown, load

    try:
        dsn = load(settings).postgres
    except StackDown:
        return None
    return PostgresSnapshots(dsn, maker(load_installation(settings.home).root))


@contextmanager
def open_history(settings: Settings) -> Iterator[History | None]:
    """The read models of this installation, for what a service that began at snapshots has not folded; None without a database."""
    from chimera.projections.history import ReadModels
    from chimera.stack.addresses import StackDown, load

    try:
        dsn = load(settings).postgres
    except StackDown:
        yield None
        return
    with closing(ReadModels(dsn, LOG_TOPIC)) as history:
        yield history


class OpenDesk:
    """Where verbs are handed in: the running service of this home, or, where none runs, one inside this process.

    A service that goes away in mid-command is replaced by an own one, with the same verb: its id makes that harmless.
    """

    def __init__(self, settings: Settings, stack: ExitStack, set_up: bool, progress: Progress | None) -> None:
        self._settings = settings
        self._stack = stack
        self._set_up = set_up
        self._progress = progress
        self._own: _Own | None = None
        found = client.find(settings.home)
        self._client: Client | None = None if found is None else stack.enter_context(found)
        if found is None:
            self._open_own()

    @property
    def served(self) -> bool:
        """Is it a running service that answers?"""
        return self._client is not None

    def ask(self, verb: Verb) -> Reply:
        """The verb's reply. Raises `Refused` where it cannot count, and other `ChimeraError`s."""
        if self._client is not None:
            try:
                return self._client.ask(verb)
            except NoService:
                self._client = None
        if self._own is None:
            self._open_own()
        assert self._own is not None
        return self._own.ask(verb)

    def _open_own(self) -> None:
        self._own = _Own(self._settings, self._stack, self._set_up, self._progress)


class _Own:
    def __init__(self, settings: Settings, stack: ExitStack, set_up: bool, progress: Progress | None) -> None:
        from chimera.commands.desk import Desk
        from chimera.commands.room import Seen

        seen = Seen()
        opened = open_service(settings, observe=seen, set_up=set_up, from_snapshots=True, progress=progress)
        service = stack.enter_context(opened)
        self._desk = Desk(service, seen, settings.home, stack.enter_context(open_history(settings)))

    def ask(self, verb: Verb) -> Reply:
        # Through JSON like over the socket, so that nothing can look different here.
        return orjson.loads(orjson.dumps(self._desk.perform(verb), default=str))  # type: ignore[no-any-return]


@contextmanager
def open_desk(settings: Settings, *, set_up: bool = False, progress: Progress | None = None) -> Iterator[OpenDesk]:
    """The desk of this home's command service, or of one that lives as long as this block; that one tells its `progress`.

    Raises what `open_service` raises, where it has to open one.
    """
    with ExitStack() as stack:
        yield OpenDesk(settings, stack, set_up, progress)
