"""One way to log for every process and the command line: lines for people on a terminal, one JSON object per line elsewhere.

The rule not to break: what is written was first looked through for every secret that this process knows.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
from pydantic import SecretStr
from rich.console import Console
from rich.text import Text

from chimera.settings import Settings

HIDDEN = "***"
SHORTEST_SECRET = 4
"""Shorter values would hide half of every line."""

LOUD = ("faust", "mode", "aiokafka", "httpx", "httpx2", "httpcore", "mcp", "uvicorn.access", "asyncio", "alembic")
"""Libraries whose ordinary doings (assignment tables, a line per request) are not our news: WARNING and above."""

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_LEVELS = {"DEBUG": "dim", "INFO": "green", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class Redactor:
    """Knows secrets and takes them out of texts. Thread-safe: secrets may be learnt while others log."""

    def __init__(self) -> None:
        self._secrets: tuple[str, ...] = ()
        self._lock = threading.Lock()

    def learn(self, *secrets: str | SecretStr | None) -> None:
        """From now on these values leave in no line."""
        plain = {s.get_secret_value() if isinstance(s, SecretStr) else s for s in secrets if s is not None}
        with self._lock:
            # Longest first: a secret that holds another one is hidden whole.
            known = {*self._secrets, *(s for s in plain if len(s) >= SHORTEST_SECRET)}
            self._secrets = tuple(sorted(known, key=lambda s: (-len(s), s)))

    def clean(self, text: str) -> str:
        """The text with every known secret hidden."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, HIDDEN)
        return text

    def clean_value(self, value: Any) -> Any:
        """A field of a line, cleaned; what JSON does not know becomes text."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self.clean(str(key)): self.clean_value(content) for key, content in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.clean_value(item) for item in value]
        return self.clean(str(value))


SECRETS = Redactor()
"""This process's secrets: set-up teaches it those of the settings, whoever resolves another one teaches it that."""


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a caller gave by `extra=`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def trace_of(record: logging.LogRecord) -> str:
    """The exception that a line tells of, as text; '' without one."""
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(traceback.format_exception(*record.exc_info)).rstrip()
    return record.exc_text or ""


class JsonLines(logging.Formatter):
    """A line as one JSON object: time (UTC), level, process, logger, message, fields, exception."""

    def __init__(self, process: str, secrets: Redactor) -> None:
        super().__init__()
        self._process, self._secrets = process, secrets

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": self._secrets.clean(record.getMessage()),
        }
        if fields := fields_of(record):
            line["fields"] = self._secrets.clean_value(fields)
        if trace := trace_of(record):
            line["exception"] = self._secrets.clean(trace)
        return orjson.dumps(line, default=str).decode()


class Pretty(logging.Handler):
    """Lines for a terminal: short time, level in its colour, message, fields; never markup."""

    def __init__(self, process: str, secrets: Redactor, stream: TextIO) -> None:
        super().__init__()
        self._process, self._secrets = process, secrets
        self._console = Console(file=stream, highlight=False, soft_wrap=True)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._secrets.clean(record.getMessage())
            fields = self._secrets.clean_value(fields_of(record))
            told = " ".join(f"{name}={value}" for name, value in fields.items())
            time = datetime.fromtimestamp(record.created).strftime("%H:%M:%S.%f")[:-3]
            trace = self._secrets.clean(trace_of(record))
            self._console.print(pretty_line(time, record.levelname, self._process, text, told, trace))
        except Exception:  # noqa: BLE001  # logging's own contract: a line that cannot be written is told on stderr, never raised
            self.handleError(record)


def pretty_line(time: str, level: str, process: str, message: str, fields: str = "", trace: str = "") -> Text:
    """One line of a log as people read it."""
    parts: list[Any] = [(time, "dim"), " ", (f"{level.lower():7}", _LEVELS.get(level, "")), " ", (process, "cyan"), "  ", message]
    parts += [("  " + fields, "dim")] if fields else []
    parts += ["\n" + trace] if trace else []
    return Text.assemble(*parts)


def read_line(line: str) -> Text | None:
    """A line that `JsonLines` wrote, as people read it; None for any other line."""
    if not line.startswith('{"time":'):
        return None
    try:
        said = orjson.loads(line)
        fields = " ".join(f"{name}={value}" for name, value in said.get("fields", {}).items())
        time = str(said["time"])[11:23]
        return pretty_line(time, said["level"], said["process"], said["message"], fields, said.get("exception", ""))
    except (orjson.JSONDecodeError, KeyError, AttributeError, TypeError):
        return None


def set_up(process: str, settings: Settings | None = None, *, stream: TextIO | None = None, level: int = logging.INFO) -> None:
    """Set logging up for this process: what there was before is replaced, so calling it again is harmless.

    `process` names it in every line. Secrets of `settings` are hidden from now on. `stream` is standard error by default.
    """
    if settings is not None:
        SECRETS.learn(*secret_values(settings))
    target = stream if stream is not None else sys.stderr
    handler: logging.Handler
    if target.isatty():
        handler = Pretty(process, SECRETS, target)
    else:
        handler = logging.StreamHandler(target)
        handler.setFormatter(JsonLines(process, SECRETS))
    root = logging.getLogger()
    for old in list(root.handlers):
        if type(old) in (logging.StreamHandler, Pretty):  # a subclass is somebody else's: tests capture by one
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level)
    for name in LOUD:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))
    logging.captureWarnings(True)


def secret_values(settings: Settings) -> Iterable[SecretStr]:
    """Every secret that the settings hold, and the password of the database's address."""
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            yield value
    password = _password(settings.postgres or "")
    if password:
        yield SecretStr(password)


def _password(dsn: str) -> str:
    """The password in a libpq connection string, as URL or as `name=value` words."""
    from urllib.parse import unquote, urlsplit

    if "://" in dsn:
        return unquote(urlsplit(dsn).password or "")
    words = dict(word.split("=", 1) for word in dsn.split() if "=" in word)
    return words.get("password", "").strip("'")
