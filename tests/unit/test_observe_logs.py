"""What processes say: one object per line for programs, readable lines for people, and never a secret in either."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
from pydantic import SecretStr

from chimera.observe import logs
from chimera.observe.logs import HIDDEN, Redactor
from chimera.settings import Settings

SENTINEL = "sentinel-4f1c9e-do-not-print"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    monkeypatch.setattr(logs, "SECRETS", Redactor())
    yield
    root.handlers[:], root.level = handlers, level
    logging.captureWarnings(False)


def said(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_without_a_terminal_every_line_is_one_json_object() -> None:
    out = io.StringIO()
    logs.set_up("brain", stream=out)
    logging.getLogger("chimera.test").info("folded %d records", 7, extra={"partition": 3})
    (line,) = said(out)
    assert (line["level"], line["process"], line["message"], line["fields"]) == (
        "INFO",
        "brain",
        "folded 7 records",
        {"partition": 3},
    )
    assert str(line["time"]).endswith("+00:00")


def test_on_a_terminal_lines_are_for_people_and_nothing_in_them_is_markup() -> None:
    out = Terminal()
    logs.set_up("brain", stream=out)
    logging.getLogger("chimera.test").warning("[bold]not markup[/bold]")
    assert "warning" in out.getvalue()
    assert "[bold]not markup[/bold]" in out.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_a_secret_of_the_settings_reaches_no_line_however_it_gets_there(stream: type[io.StringIO]) -> None:
    out = stream()
    settings = Settings(llm_key=SecretStr(SENTINEL), postgres=f"postgresql://ann:pw-{SENTINEL}@db/x")
    logs.set_up("brain", settings, stream=out)
    log = logging.getLogger("chimera.test")
    log.info("the key is %s", SENTINEL)
    log.info("as a field", extra={"headers": {"authorization": [f"Bearer {SENTINEL}"]}, "key": settings.llm_key})
    log.info("in the address: %s", settings.postgres)
    try:
        raise ValueError(f"401 for {SENTINEL}")
    except ValueError:
        log.exception("the call failed")
    assert SENTINEL not in out.getvalue()
    assert out.getvalue().count(HIDDEN) >= 4


def test_a_secret_learnt_later_is_hidden_from_then_on_and_the_longest_first() -> None:
    secrets = Redactor()
    secrets.learn("abcdef")
    secrets.learn("abcdefghij", None, SecretStr("xyzxyz"))
    assert secrets.clean("abcdefghij and abcdef and xyzxyz") == f"{HIDDEN} and {HIDDEN} and {HIDDEN}"


def test_a_secret_too_short_to_be_one_hides_nothing() -> None:
    secrets = Redactor()
    secrets.learn("", "a")
    assert secrets.clean("a cat") == "a cat"


def test_what_libraries_do_all_day_is_not_said_but_their_warnings_are() -> None:
    out = io.StringIO()
    logs.set_up("gate", stream=out)
    for name in ("faust.transport", "httpx", "httpx2", "mode"):
        logging.getLogger(name).info("HTTP Request: POST http://127.0.0.1/mcp")
    logging.getLogger("aiokafka").warning("no broker")
    assert [line["message"] for line in said(out)] == ["no broker"]


def test_setting_up_twice_says_nothing_twice() -> None:
    first, second = io.StringIO(), io.StringIO()
    logs.set_up("a", stream=first)
    logs.set_up("b", stream=second)
    logging.getLogger("chimera.test").info("once")
    assert (len(said(first)), len(said(second))) == (0, 1)


def test_a_json_line_can_be_read_again_as_people_read_it() -> None:
    out = io.StringIO()
    logs.set_up("brain", stream=out)
    logging.getLogger("chimera.test").error("no %s", "bread", extra={"agent": "ava"})
    read = logs.read_line(out.getvalue().strip())
    assert read is not None
    assert read.plain.endswith("error   brain  no bread  agent=ava")
    assert logs.read_line("=== started 2026") is None
    assert logs.read_line('{"time": broken') is None
