"""A log of a test's own on the shared broker, and an installation whose commands go there."""

from __future__ import annotations

import uuid

from chimera.commands.keys import ensure_installation, log_topics
from chimera.eventlog.append import Appender
from chimera.eventlog.cluster import apply
from chimera.settings import Settings

NO_DATABASE = "postgresql://nobody@127.0.0.1:1/none"
"""Nobody listens there: who is given it has to do without."""


def own_log(bootstrap: str, name: str) -> str:
    """Make the log of somebody of that name; its topic."""
    topic = f"{name}-{uuid.uuid4().hex[:8]}-chimera.log"
    apply(bootstrap, log_topics(topic))
    return topic


def installed(settings: Settings, topic: str) -> Settings:
    """The settings, once their home holds an installation and the log its law."""
    assert settings.kafka is not None
    with Appender(settings.kafka, log_topics(topic), "installer") as appender:
        ensure_installation(settings, appender, settings.kafka, topic)
    return settings
