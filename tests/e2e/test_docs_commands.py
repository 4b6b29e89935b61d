"""The commands of all pages, given to a real local stack as readers would.

Lines that begin with `$ ` in ```console blocks are run by bash in a directory that holds `examples/`, `policies/`, `tests/` and,
after the first, `.chimera/`. CARD, RECORD, ROOT_KEY, NOTE and AGENT POST stand for what the commands before them print. What needs
a vendor's key or minutes of building stands in ```sh blocks, which nobody runs here. Whatever replays finds a tripwire where the
MCP servers are: it may ask no tool.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chimera.stack.addresses import running_stack
from chimera.stack.postgres import server_binaries

ROOT = Path(__file__).parents[2]
PAGES = ("operators", "mission-control", "analysts", "auditors", "policy", "replay", "media", "simulator", "memory")
AT_THE_EDGES = ("Start", "End")
CARDS_AT_LEAST = 4
PATIENCE_S = 90


def commands(page: Path) -> list[tuple[str, str]]:
    """(section, command) in order."""
    found: list[tuple[str, str]] = []
    section, inside = "", False
    for line in page.read_text().splitlines():
        if line.startswith("```"):
            inside = line == "```console"
        elif line.startswith("## ") and not inside:
            section = line[3:]
        elif inside:
            assert line.startswith("$ "), f"{page.name}: a line of a console block begins with '$ ': {line}"
            found.append((section, line[2:]))
    return found


class Tripwire:
    """An address that answers nobody and knows how often it was asked."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._asked: list[object] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.getsockname()[1]}/mcp"

    def listen(self) -> None:
        """Until the server is shut down."""
        while True:
            try:
                caller, address = self._server.accept()
            except OSError:
                return
            self._asked.append(address)
            caller.close()

    def asked(self) -> int:
        """Callers so far. They are let in one after the other: whoever came before this look is counted."""
        with socket.create_connection(self._server.getsockname(), 60) as look:
            self_made = look.getsockname()
            assert look.recv(1) == b""
        self._asked.remove(self_made)
        return len(self._asked)


@contextmanager
def tripwire() -> Iterator[Tripwire]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        wire = Tripwire(server)
        thread = threading.Thread(target=wire.listen)
        thread.start()
        try:
            yield wire
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


REPLAYS = re.compile(r"\bchimera (replay|corpus) ")


class Reader:
    """Somebody with a shell, in a directory of their own."""

    def __init__(self, place: Path, wire: Tripwire) -> None:
        self.place, self.wire = place, wire
        keep = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
        path = os.pathsep.join((str(Path(sys.executable).parent), keep["PATH"], str(server_binaries())))
        self.environment = {**keep, "PATH": path, "COLUMNS": "120"}
        self.waiting: list[str] = []
        self.newest = self.root = self.post = self.note = ""

    def run(self, command: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=self.place,
            env=self.environment | more,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def give(self, command: str) -> str:
        """Run it, with its placeholders filled in; it must exit 0, and ask no tool if it replays. Returns what it printed."""
        replays = REPLAYS.search(command) is not None
        done = self.run(self.filled(command), **(self.wired() if replays else {}))
        assert done.returncode == 0, f"$ {command}\nexit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        if replays:
            assert self.wire.asked() == 0, f"$ {command}\nasked a tool"
        return done.stdout

    def wired(self) -> dict[str, str]:
        """Settings that lead to the tripwire wherever the stack's MCP servers, or a model, would be asked."""
        servers = running_stack(self.place / ".chimera")["mcp"]
        named = {f"CHIMERA_{name}_URL": self.wire.url for name in ("X", "FEEDS", "WRITER", "LLM")}
        return {**named, "CHIMERA_MCP": json.dumps(dict.fromkeys(servers, self.wire.url))}

    def filled(self, command: str) -> str:
        """CARD: the first card of the list; after a decision on it, the next one."""
        if "CARD" in command:
            self.waiting = self.waiting or self.cards()
            decides = re.search(r"review (approve|edit|reject)", command) is not None
            command = command.replace("CARD", self.waiting.pop(0) if decides else self.waiting[0])
        if "RECORD" in command:
            self.newest = self.newest or json.loads(self.give("chimera events tail -n 1 --no-follow --json").splitlines()[-1])["id"]
            command = command.replace("RECORD", self.newest)
        if "AGENT POST" in command:
            self.post = self.post or self.a_post()
            command = command.replace("AGENT POST", self.post)
        if "NOTE" in command:
            self.note = self.note or self.a_note()
            command = command.replace("NOTE", self.note)
        if "ROOT_KEY" in command:
            self.root = self.root or self.give("chimera keys list").split()[1]
            command = command.replace("ROOT_KEY", self.root)
        return command

    def a_post(self) -> str:
        """The agent and the id of something that was published."""
        row = json.loads(self.give("chimera post list --json"))["posts"][0]
        return f"{row['agent']} {row['platform_id']}"

    def a_note(self) -> str:
        """The id of something that is remembered."""
        found: str = json.loads(self.give("chimera memory search soup --json"))["found"][0]["id"]
        return found

    def cards(self) -> list[str]:
        return [card["card"] for card in json.loads(self.give("chimera review list --json"))["cards"]]


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    place = Path(tempfile.mkdtemp(prefix="chimera-docs-"))
    for folder in ("examples", "policies", "tests"):
        (place / folder).symlink_to(ROOT / folder)
    with tripwire() as wire:
        yield from reading(Reader(place, wire))


def reading(them: Reader) -> Iterator[Reader]:
    """The page's first commands before the tests, its last ones after them."""
    steps = commands(ROOT / "docs" / "operators.md")
    try:
        for section, command in steps:
            if section == "Start":
                them.give(command)
        deadline = time.monotonic() + PATIENCE_S
        while len(them.cards()) < CARDS_AT_LEAST:
            assert time.monotonic() < deadline, them.run("chimera fleet status; chimera logs -n 5").stdout
        yield them
        for section, command in steps:
            if section == "End":
                them.give(command)
        assert them.run("chimera status").returncode == 1, "the stack still runs after the page's last command"
    finally:
        them.run("chimera down")
        shutil.rmtree(them.place, ignore_errors=True)


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_the_page_does_what_it_is_there_for(page: str, reader: Reader) -> None:
    given = [command for section, command in commands(ROOT / "docs" / f"{page}.md") if section not in AT_THE_EDGES]
    assert given
    for command in given:
        said = reader.give(command).strip()
        assert said not in ("", "False"), f"`{command}` printed {said!r}"


def test_whoever_asks_a_tool_steps_on_the_tripwire(reader: Reader) -> None:
    with tripwire() as wire:
        wired = Reader(reader.place, wire).wired()
        assert wire.asked() == 0
        reader.run("chimera mcp tools x", **wired)
        assert wire.asked() > 0


def test_a_command_that_fails_is_noticed(reader: Reader) -> None:
    with pytest.raises(AssertionError, match="exit 1"):
        reader.give("chimera agent show nobody")


def test_no_page_has_commands_that_nobody_runs() -> None:
    holders = {page.stem for page in (ROOT / "docs").rglob("*.md") if "```console" in page.read_text()}
    assert holders == set(PAGES)


def test_every_make_target_of_the_contributors_page_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    given = [command.split() for _, command in commands(ROOT / "CONTRIBUTING.md")]
    assert given
    assert all(words[0] == "make" and words[1] in targets for words in given)
