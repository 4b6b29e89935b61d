"""How a process comes by a command service: settings in, service out.

The rule not to break: only a set-up (`set_up=True`) makes keys or adopts the law; everything else needs them to be there.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from chimera.commands.keys import LOG, ensure_installation, log_topics
from chimera.commands.service import CommandService, Observer
from chimera.eventlog.append import Appender
from chimera.eventlog.topics import require_topics
from chimera.settings import Settings
from chimera.stack.addresses import load_kafka

LOG_TOPIC = LOG
"""The log that the command line works on; tests that share a broker set a name of their own."""


@contextmanager
def open_service(
    settings: Settings,
    *,
    observe: Observer | None = None,
    set_up: bool = False,
    partitions: Iterable[int] | None = None,
    topic: str | None = None,
) -> Iterator[CommandService]:
    """A command service on this installation's log, folded up to its end, closed afterwards.

    Raises `StackDown`, `TopicDrift`, `KeyTrouble` and what reading raises.
    """
    bootstrap = load_kafka(settings)
    name = topic or LOG_TOPIC
    topics = log_topics(name)
    require_topics(bootstrap, topics, settings.home)
    if set_up:
        with Appender(bootstrap, topics, "chimera-installer") as appender:
            ensure_installation(settings, appender, bootstrap, name)
    with CommandService(bootstrap, settings, observe=observe, topic=name, partitions=partitions) as service:
        service.catch_up()
        yield service
