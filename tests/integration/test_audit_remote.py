"""An export to a bucket of a real S3 server: put, read back, resumed, refused where something else is, and it verifies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import orjson
import pytest
from obstore.store import S3Store
from typer.testing import CliRunner

from chimera.audit import remote
from chimera.audit.remote import RemoteTrouble
from chimera.audit.verify import verify
from chimera.cli import audit as command
from chimera.cli.main import build
from tests.audithouse import MemorySource, home_for, notarise, short_history, source_of
from tests.objectstore import BUCKET, s3_server

Sworn = tuple[MemorySource, Path]


@pytest.fixture(scope="module")
def sworn(tmp_path_factory: pytest.TempPathFactory) -> Sworn:
    """A log, and a home whose notary signed it."""
    made = short_history()
    source, home = source_of(made), home_for(tmp_path_factory.mktemp("sworn") / "home", made)
    notarise(home, source)
    return source, home


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with s3_server(tmp_path_factory.mktemp("s3") / "server") as environ:
        yield environ


@pytest.fixture
def shell(server: dict[str, str], sworn: Sworn, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    """`chimera audit export` of that log, with the bucket's credentials in the environment."""
    source, home = sworn
    for name, value in (server | {"CHIMERA_HOME": str(home)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(command, "load_kafka", lambda settings: "none")
    monkeypatch.setattr(command, "KafkaSource", lambda bootstrap: _Known(source))
    monkeypatch.setattr(command, "sign_now", lambda bootstrap, home: {topic: source.ends(topic) for topic in source.topics})
    return CliRunner()


class _Known:
    """The log in memory, called as the one in Kafka."""

    bootstrap = "none"

    def __init__(self, source: MemorySource) -> None:
        self.ends, self.read = source.ends, source.read


def run(shell: CliRunner, *argv: str) -> Any:
    return shell.invoke(build(["audit"]), ["audit", "export", "--format", "jsonl", *argv])


def opened(url: str) -> S3Store:
    return remote.open_place(remote.place_of(url))


def names(store: S3Store) -> set[str]:
    return {each["path"] for batch in obstore.list(store) for each in batch}


def fetched(store: S3Store, into: Path) -> Path:
    for name in names(store):
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_bytes(bytes(obstore.get(store, name).bytes()))
    return into


def test_an_export_to_a_bucket_is_the_one_to_a_directory_and_is_never_written_over(
    shell: CliRunner, sworn: Sworn, tmp_path: Path
) -> None:
    url = f"s3://{BUCKET}/exports/november"
    done = run(shell, "--out", url)
    assert done.exit_code == 0, done.output
    assert "copy all of" in done.output
    assert run(shell, "--out", str(tmp_path / "here")).exit_code == 0
    copy = fetched(opened(url), tmp_path / "copy")
    assert verify(copy).damages == []
    here = {
        str(path.relative_to(tmp_path / "here")): path.read_bytes() for path in (tmp_path / "here").rglob("*") if path.is_file()
    }
    assert {name: (copy / name).read_bytes() for name in here} == here
    assert names(opened(url)) == here.keys()
    assert list((sworn[1] / "exports").iterdir()) == [], "what was made here first is gone"

    again = run(shell, "--out", url)
    assert again.exit_code == 1
    assert "holds a finished export" in str(again.exception)
    obstore.put(opened(f"s3://{BUCKET}/letters"), "to-mum.txt", b"dear mum")
    foreign = run(shell, "--out", f"s3://{BUCKET}/letters")
    assert foreign.exit_code == 1
    assert "to-mum.txt is there" in str(foreign.exception)


def test_what_was_cut_off_while_it_was_put_goes_on_and_the_manifest_comes_last(
    shell: CliRunner, sworn: Sworn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, really, put = f"s3://{BUCKET}/exports/cut", obstore.put_async, list[str]()

    async def power_cut(store: S3Store, name: str, file: Path) -> object:
        if len(put) >= 5:
            raise ConnectionResetError("the line is cut")
        stored = await really(store, name, file)
        put.append(name)
        return stored

    monkeypatch.setattr(obstore, "put_async", power_cut)
    cut = run(shell, "--out", url)
    assert cut.exit_code != 0
    there = names(opened(url))
    assert there >= set(put)  # what was on its way may have arrived too
    assert "manifest.json" not in there
    obstore.put(opened(url), put[0], b"what arrived broken")

    monkeypatch.setattr(obstore, "put_async", really)
    told = orjson.loads((sole(sworn[1] / "exports") / "manifest.json").read_bytes())
    done = run(shell, "--out", url, "--json")
    assert done.exit_code == 0, done.output
    kept = re.search(r"(\d+) were there and right", done.stderr)
    assert kept is not None, done.stderr
    assert int(kept[1]) >= len(there) - 1
    assert orjson.loads(done.stdout) == told
    assert verify(fetched(opened(url), tmp_path / "copy")).damages == []


def test_an_object_that_reads_back_differently_is_named_and_no_manifest_is_put(
    shell: CliRunner, sworn: Sworn, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, really = f"s3://{BUCKET}/exports/liar", obstore.put_async

    async def flipped(store: S3Store, name: str, file: Path) -> object:
        return await really(store, name, b"else" if name == "VERIFY.md" else file)

    monkeypatch.setattr(obstore, "put_async", flipped)
    refused = run(shell, "--out", url)
    assert isinstance(refused.exception, RemoteTrouble)
    assert f"{url}/VERIFY.md reads back with sha256" in str(refused.exception)
    assert "manifest.json" not in names(opened(url))


def sole(folder: Path) -> Path:
    (found,) = folder.iterdir()
    return found


def test_without_credentials_or_with_wrong_ones_it_says_so_before_anything_is_read(
    shell: CliRunner, sworn: Sworn, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted((sworn[1] / "exports").glob("*"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "guessed")
    wrong = run(shell, "--out", f"s3://{BUCKET}/exports/wrong")
    assert isinstance(wrong.exception, RemoteTrouble)
    assert "refuses these credentials" in str(wrong.exception)
    assert "guessed" not in str(wrong.exception)
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    none = run(shell, "--out", f"s3://{BUCKET}/exports/none")
    assert isinstance(none.exception, RemoteTrouble)
    assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(none.exception)
    assert run(shell, "--out", f"s3://{BUCKET}").exit_code == 2
    assert sorted((sworn[1] / "exports").glob("*")) == before
