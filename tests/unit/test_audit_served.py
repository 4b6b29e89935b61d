"""Trees over HTTP: a witness elsewhere catches a server that shows two histories, and the server shows trees and nothing else."""

from __future__ import annotations

import http.client
import shutil
import socket
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
import uvicorn
from typer.testing import CliRunner

from chimera.audit.serve import application, tile_named
from chimera.audit.served import Server, Unreachable
from chimera.audit.tlog import WIDTH, Tile, leaf_hash
from chimera.audit.tree import CHECKPOINT, TreeWriter, read_bundle
from chimera.audit.witness import COSIGNED, look
from chimera.cli.main import build
from tests.audithouse import LOG, MemorySource, history, home_for, source_of
from tests.unit.test_audit_witness import NAME, cut, forked, publics, shown


@contextmanager
def serving(directory: Path) -> Iterator[str]:
    """A server of these trees; its address."""
    door = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(application(directory), log_config=None, access_log=False, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{door.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        door.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return home_for(tmp_path / "home", history())


@pytest.fixture
def source() -> MemorySource:
    return source_of(history())


def test_a_server_that_shows_another_history_later_is_caught_and_nothing_of_it_is_cosigned(
    home: Path, source: MemorySource, tmp_path: Path
) -> None:
    state, now = tmp_path / "state", tmp_path / "now"
    now.symlink_to(shown(home, cut(source, 20), tmp_path / "a"))
    with serving(now) as url:
        server = Server(url)
        first = look(server, state, NAME, publics(home), 1)
        assert [verdict.trouble for verdict in first] == [""] * len(first)
        now.unlink()
        now.symlink_to(shown(home, forked(source), tmp_path / "b"))
        (caught,) = [verdict for verdict in look(server, state, NAME, publics(home), 2) if verdict.trouble]
        assert caught.origin.endswith(f"{LOG}/0")
        assert "does not begin with the one of 20 leaves that was signed" in caught.trouble
        assert b"\n20\n" in (state / COSIGNED / caught.origin).read_bytes(), "what was cosigned is what was seen first"
        now.unlink()
        now.symlink_to(shown(home, source, tmp_path / "c"))
        honest = look(server, state, NAME, publics(home), 3)
        assert [verdict.trouble for verdict in honest] == [""] * len(honest)
        server.close()


def test_tiles_that_do_not_have_the_signed_root_and_trees_that_are_gone_are_told(
    home: Path, source: MemorySource, tmp_path: Path
) -> None:
    trees = shown(home, source, tmp_path / "a")
    with serving(trees) as url:
        server = Server(url)
        look(server, tmp_path / "state", NAME, publics(home), 1)
        (tile,) = (trees / LOG / "1" / "tile" / "0").glob("000.p/*")
        tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
        shutil.rmtree(trees / LOG / "2")
        tile_of_3 = next((trees / LOG / "3" / "tile" / "0").glob("000.p/*"))
        tile_of_3.unlink()
        said = {v.origin[-1]: v.trouble for v in look(server, tmp_path / "state", NAME, publics(home), 2) if v.trouble}
        server.close()
    assert "another root than the checkpoint signs" in said["1"]
    assert "is not shown any more" in said["2"]
    assert "is not there" in said["3"]


def test_a_server_that_does_not_answer_is_no_second_history(home: Path, tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:1", "ftp://127.0.0.1", "http://kim:secret@127.0.0.1"):
        with pytest.raises(Unreachable):
            look(Server(url), tmp_path / "state", NAME, publics(home), 1)
    empty = tmp_path / "empty"
    empty.mkdir()
    with serving(empty) as url, pytest.raises(Unreachable, match="is no list of trees"):
        look(Server(f"{url}/elsewhere"), tmp_path / "state", NAME, publics(home), 1)


def test_who_signs_cannot_choose_where_the_witness_writes(home: Path, source: MemorySource, tmp_path: Path) -> None:
    told = orjson.loads((home / "installation.json").read_bytes())
    (home / "installation.json").write_bytes(orjson.dumps(told | {"installation": "../../../x"}))
    verdicts = look(shown(home, source, tmp_path / "a"), tmp_path / "state", NAME, publics(home), 1)
    assert all("is no origin of a tree" in verdict.trouble for verdict in verdicts)
    assert not (tmp_path / "state" / COSIGNED).exists()


def test_the_command_takes_an_address_for_a_directory(home: Path, source: MemorySource, tmp_path: Path) -> None:
    runner, app = CliRunner(), build(["audit"])
    with serving(shown(home, source, tmp_path / "a")) as url:
        argv = ["audit", "witness", "--trees", url, "--state", str(tmp_path / "s"), "--key", b64encode(publics(home)[0]).decode()]
        ran = runner.invoke(app, [*argv, "--json"])
    assert ran.exit_code == 0, ran.output
    assert orjson.loads(ran.output)["consistent"]


def test_it_serves_checkpoints_tiles_and_leaves_and_a_narrower_tile_from_a_wider_one(tmp_path: Path) -> None:
    writer = TreeWriter(tmp_path / LOG / "0", "here")
    leaves = [b"leaf %d" % n for n in range(300)]
    for leaf in leaves:
        writer.extend(leaf)
    writer.commit(b"a note\n")
    (tmp_path / "secret").write_text("not for anybody")
    (tmp_path / LOG / "0" / "secret").write_text("not for anybody")
    with serving(tmp_path) as url:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)

        def get(path: str) -> tuple[int, bytes]:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()

        assert get("/logs") == (200, f"{LOG}/0\n".encode())
        assert get(f"/{LOG}/0/{CHECKPOINT}") == (200, b"a note\n")
        hashes = [leaf_hash(leaf) for leaf in leaves]
        assert get(f"/{LOG}/0/tile/0/000") == (200, b"".join(hashes[:WIDTH]))
        assert get(f"/{LOG}/0/tile/0/001.p/44") == (200, b"".join(hashes[WIDTH:]))
        assert get(f"/{LOG}/0/tile/0/001.p/9") == (200, b"".join(hashes[WIDTH : WIDTH + 9]))
        assert get(f"/{LOG}/0/tile/0/000.p/5") == (200, b"".join(hashes[:5]))
        status, bundle = get(f"/{LOG}/0/tile/entries/001.p/7")
        assert (status, read_bundle(bundle, tmp_path, 7)) == (200, leaves[WIDTH : WIDTH + 7])
        for path in (
            f"/{LOG}/0/tile/0/001.p/45",
            f"/{LOG}/0/tile/0/001",
            f"/{LOG}/0/tile/0/1",
            f"/{LOG}/0/tile/0/000.p/256",
            f"/{LOG}/0/tile/0/x000/000",
            f"/{LOG}/0/tile/0/../../secret",
            f"/{LOG}/0/tile/0/..%2f..%2fsecret",
            f"/{LOG}/0/secret",
            "/secret",
            f"/{LOG}/..%2f0/{CHECKPOINT}",
            f"/../{LOG}/0/{CHECKPOINT}",
            f"/{LOG}/7/{CHECKPOINT}",
        ):
            assert get(path)[0] == 404, path
        connection.request("POST", f"/{LOG}/0/{CHECKPOINT}", b"x")
        refused = connection.getresponse()
        refused.read()
        assert refused.status == 405
        connection.close()


@pytest.mark.parametrize("tile", [Tile(0, 0, 256), Tile(-1, 1_234_067, 3), Tile(3, 999, 255), Tile(63, 1000, 1)])
def test_a_tiles_name_leads_back_to_it(tile: Tile) -> None:
    assert tile_named(tile.path.removeprefix("tile/")) == tile
