"""Tessera's own `fsck` on our trees, as files and over HTTP: somebody else's code reads every tile and agrees with the root.

It is judged by what it says, never by its exit code, which is 0 for a damaged tree too; with one worker it hangs there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from chimera.audit.notary import load_notary_keys, origin_of
from chimera.audit.note import Verifier
from tests.audithouse import LOG, MemorySource, home_for, notarise, short_history, source_of
from tests.unit.test_audit_served import serving

FSCK = "github.com/transparency-dev/tessera/cmd/fsck@v1.0.4"
SIZE = 700
Fsck = Callable[[str], str]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose notary signed a tree of two full tiles and a part of one."""
    made = short_history()
    home = home_for(tmp_path_factory.mktemp("tessera") / "home", made)
    one = source_of(made).topics[LOG][0][0]
    notarise(home, MemorySource({LOG: {0: [one._replace(offset=n, append_ts=n) for n in range(SIZE)]}}))
    return home


@pytest.fixture(scope="module")
def fsck(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Fsck:
    """What `fsck` says of the tree at an address."""
    go = shutil.which("go")
    if go is None:
        pytest.skip("there is no Go here to build Tessera's fsck with")
    work = tmp_path_factory.mktemp("fsck")
    env = {**os.environ, "GOFLAGS": "-mod=mod", "GOBIN": str(work)}  # Go's own cache: it is built once on a machine
    built = subprocess.run([go, "install", FSCK], env=env, capture_output=True, text=True, check=False, timeout=300)
    if built.returncode and "dial" in built.stderr:
        pytest.skip(f"Tessera cannot be fetched here: {built.stderr[-200:]}")
    assert built.returncode == 0, built.stderr
    installation = orjson.loads((home / "installation.json").read_bytes())["installation"]
    public = load_notary_keys(home).keys[0].public_key().public_bytes_raw()
    (work / "key").write_text(Verifier(origin_of(installation, LOG, 0), public).line + "\n")

    def run(url: str) -> str:
        argv = [str(work / "fsck"), "--storage_url", url, "--public_key", str(work / "key"), "--ui=false", "--N=2"]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120).stderr

    return run


def test_tessera_accepts_the_tiles_as_files_and_as_they_are_served(home: Path, fsck: Fsck) -> None:
    root = f"Successfully fsck'd log with size {SIZE}"
    assert root in fsck(f"file://{home / 'audit' / LOG / '0'}/")
    with serving(home / "audit") as url:
        assert root in fsck(f"{url}/{LOG}/0/")


def test_tessera_sees_a_flipped_byte_where_we_do(home: Path, fsck: Fsck, tmp_path: Path) -> None:
    tree = Path(shutil.copytree(home / "audit" / LOG / "0", tmp_path / "tree"))
    tile = tree / "tile" / "0" / "001"
    raw = tile.read_bytes()
    tile.write_bytes(raw[:5] + bytes([raw[5] ^ 1]) + raw[6:])
    said = fsck(f"file://{tree}/")
    assert "Successfully" not in said
    assert said
