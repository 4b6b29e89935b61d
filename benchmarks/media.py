"""How fast files go into the media store and out, beside obstore alone, and how much memory that takes.

`python benchmarks/media.py [--mb 64] [--large 2048] [--json]`: each figure is the best of five; memory is the peak of a fresh
process. `--large` also puts one file of so many MB into a folder and into a real S3 server (`weed`), and reads it back verified.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import obstore
from obstore.store import LocalStore

from chimera.media.store import CHUNK, PIECE, MediaStore, path_of
from tests.objectstore import BUCKET, s3_server

HEAD = bytes.fromhex("89504e470d0a1a0a") + bytes(8)
PEAK = """
import asyncio, resource, sys
from pathlib import Path
from benchmarks.media import own_put
from chimera.media.place import open_media
asyncio.run(own_put(open_media(Path(), sys.argv[2]), int(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


async def body(megabytes: int) -> AsyncIterator[bytes]:
    """A PNG by its first bytes, otherwise blocks that differ."""
    yield HEAD
    block = bytearray(CHUNK)
    for n in range(megabytes):
        block[:8] = n.to_bytes(8, "big")
        yield bytes(block)


async def raw_put(folder: Path, megabytes: int) -> float:
    """Seconds that obstore alone takes for the same stream, with no hash."""
    began = time.perf_counter()
    await obstore.put_async(LocalStore(folder), "raw", body(megabytes), chunk_size=PIECE, max_concurrency=2)
    return time.perf_counter() - began


async def own_put(store: MediaStore, megabytes: int) -> tuple[float, float]:
    """Seconds for putting, and for reading back verified."""
    began = time.perf_counter()
    asset = await store.put(body(megabytes), largest=1 << 42)
    put = time.perf_counter() - began
    began = time.perf_counter()
    async for _ in store.chunks(asset):
        continue
    got = time.perf_counter() - began
    await store.remove(path_of(asset.name))
    return put, got


def peak(megabytes: int, where: str | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Peak resident memory, KiB, of a process that puts and reads one file; `where` the store is (None: a folder that goes)."""
    with tempfile.TemporaryDirectory() as folder:
        argv = [sys.executable, "-c", PEAK, str(megabytes), where or folder]
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environ or {})})
    return int(done.stdout)


def peaks_of_large(megabytes: int) -> dict[str, int]:
    """Peak resident memory, KiB, by store: a folder, and a bucket of an S3 server that is started for this."""
    found = {"folder": peak(megabytes)}
    with tempfile.TemporaryDirectory() as home, s3_server(Path(home) / "s3") as environ:
        found["s3"] = peak(megabytes, f"s3://{BUCKET}/large", environ)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=64)
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        raw, put, got = [], [], []
        for _ in range(5):
            raw.append(asyncio.run(raw_put(Path(folder), options.mb)))
            one, two = asyncio.run(own_put(MediaStore(Path(folder)), options.mb))
            put.append(one)
            got.append(two)
    told = {
        "megabytes": options.mb,
        "raw_put_mb_s": round(options.mb / min(raw)),
        "put_mb_s": round(options.mb / min(put)),
        "put_of_raw": round(min(raw) / min(put), 2),
        "verified_read_mb_s": round(options.mb / min(got)),
        "large_gb": options.large / 1024,
        "peak_kib": {str(mb): peak(mb) for mb in (options.mb // 8, options.mb, options.mb * 4)},
    }
    if options.large:
        told["large_limit_mib"] = peak(options.mb) // 1024
        told |= {f"large_{name}_mib": kib // 1024 for name, kib in peaks_of_large(options.large).items()}
    if options.json:
        print(json.dumps(told))
        return
    print(f"{options.mb} MB in: {told['put_mb_s']} MB/s, {told['put_of_raw']} of obstore alone ({told['raw_put_mb_s']} MB/s)")
    print(f"out, verified: {told['verified_read_mb_s']} MB/s")
    print("peak memory: " + ", ".join(f"{kib // 1024} MiB at {mb} MB" for mb, kib in told["peak_kib"].items()))
    if options.large:
        print(
            f"peak memory for {options.large} MB: {told['large_folder_mib']} MiB into a folder, {told['large_s3_mib']} MiB into S3"
        )


if __name__ == "__main__":
    main()
