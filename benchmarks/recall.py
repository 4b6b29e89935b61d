"""How fast memory is: texts embedded on one core, notes kept, and how long recalling takes, each beside its limit of the same run.

    python benchmarks/recall.py [--notes N] [--only STORE] [--weaviate BINARY] [--home DIRECTORY] [--json]

Embedding is counted by CPU time. Notes that are kept have made-up vectors in clusters, as those of texts lie, so notes/s are those
of writing alone. Weaviate is measured where --weaviate or CHIMERA_TEST_WEAVIATE names a built server. With --home what was loaded
is kept there, and asked again by the next run without loading it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chimera.events.notes import MemoryNoted
from chimera.memory import builds, pgrows
from chimera.memory.contract import Query
from chimera.memory.embedding import DIMENSIONS, VOCABULARY, MiniLM
from chimera.memory.pgvector import PgVector
from chimera.memory.recall import Recall
from chimera.memory.store import Row, Store
from chimera.memory.weaviate import Place, Weaviate
from chimera.projections.checkpoints import connect
from chimera.projections.schema import migrate
from chimera.projections.write import Connection
from chimera.stack.postgres import prepare_postgres
from chimera.stack.supervisor import Supervisor
from chimera.stack.weaviate import KEY, prepare_weaviate
from tests.memoryhouse import NOW_MS, Keys, note

TENANT = "acme"
AGENTS = 100
BATCH = 256
WORDS = [word for word in VOCABULARY.read_text().splitlines() if word.isascii() and word.isalpha() and len(word) > 3][300:6_300]
CHANCES = [1 / (n + 20) for n in range(len(WORDS))]
"""Some words are common, most are rare; what every text holds (about the first 300) no word index keeps."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--notes", type=int, default=100_000)
    arguments.add_argument("--only", choices=("postgres", "weaviate"), help="Only this store, and no embedding.")
    arguments.add_argument("--weaviate", default=os.environ.get("CHIMERA_TEST_WEAVIATE"), help="A built server.")
    arguments.add_argument("--home", type=Path, help="Where what is loaded is kept for the next run.")
    arguments.add_argument("--json", action="store_true", help="One JSON object, figures by name.")
    given = arguments.parse_args()
    found = {} if given.only else embedding()
    with tempfile.TemporaryDirectory(prefix="chimera-bench-recall-") as own:
        home = given.home or Path(own)
        home.mkdir(parents=True, exist_ok=True)
        home.chmod(0o755)  # the database runs as another user where this one is root
        found |= stores(home, given.notes, given.only, given.weaviate)
    if given.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:<70} {figure:>12,.1f}")


def stores(home: Path, count: int, only: str | None, binary: str | None) -> dict[str, float]:
    """What is wanted of both, on servers of our own."""
    found: dict[str, float] = {}
    made = rows_of(count)
    supervisor = Supervisor(home / "logs")
    supervisor.start()
    try:
        postgres = prepare_postgres(home, durable=False)
        supervisor.add([postgres.child])
        migrate(postgres.dsn)
        with connect(postgres.dsn) as connection:
            if only != "weaviate":
                found |= {"copy without indexes, notes/s": copied(connection, made[: min(len(made), 20_000)])}
                with closing(PgVector(postgres.dsn)) as store:
                    found |= measured(connection, store, postgres.dsn, made, supervisor)
            if only != "postgres" and binary and Path(binary).exists():
                server = prepare_weaviate(home, Path(binary))
                supervisor.add([server.child])
                with closing(Weaviate(lambda: Place(server.http, server.grpc, home / KEY))) as store:
                    found |= measured(connection, store, postgres.dsn, made, supervisor)
    finally:
        supervisor.stop()
    return found


def embedding() -> dict[str, float]:
    """Texts per second of one core, and what the model alone does with the same tokens."""
    model = MiniLM()
    texts = [f"A pot of pumpkin soup costs about {n} cents a plate in autumn" for n in range(2_000)]
    model.embed(texts[:8])
    before = time.process_time()
    model.embed(texts[8:])
    ours = (len(texts) - 8) / (time.process_time() - before)
    ids = numpy.array([each.ids for each in model._tokens.encode_batch(texts[:32])], dtype="int64")
    inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
    before = time.process_time()
    for _ in range(30):
        model._session.run(None, inputs)
    raw = 30 * 32 / (time.process_time() - before)
    return {"embedded texts/s by CPU": ours, "limit: the model alone, texts/s by CPU": raw}


def rows_of(count: int) -> list[Row]:
    """Notes of one tenant, a hundred agents, in two hundred clusters."""
    chosen, numbers = random.Random(7), numpy.random.default_rng(7)
    centres = numbers.standard_normal((200, DIMENSIONS)).astype("float32")
    vectors = centres[numbers.integers(0, 200, count)] + 0.6 * numbers.standard_normal((count, DIMENSIONS)).astype("float32")
    vectors /= numpy.linalg.norm(vectors, axis=1, keepdims=True)
    keys = Keys()
    made = []
    for n in range(count):
        text = " ".join(chosen.choices(WORDS, CHANCES, k=20))
        agent = f"agent/00000000-0000-4000-8000-{n % AGENTS:012d}"
        each: MemoryNoted = note(text, agent=agent, identity=str(n), ts=NOW_MS - n * 1_000, tenant=TENANT, keys=keys)
        made.append(Row(each, text, vectors[n], (0, n)))
    return made


def batches(made: Sequence[Row]) -> Iterator[Sequence[Row]]:
    for begin in range(0, len(made), BATCH):
        yield made[begin : begin + BATCH]


def copied(connection: Connection, made: Sequence[Row]) -> float:
    """The limit of keeping: the same bytes into a table that nothing is looked up in."""
    connection.execute("CREATE TABLE IF NOT EXISTS bench_raw (row bytea)")
    began = time.perf_counter()
    for some in batches(made):
        with connection.cursor() as cursor, cursor.copy("COPY bench_raw FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["bytea"])
            for row in some:
                copy.write_row((pgrows.copied([row]),))
    seconds = time.perf_counter() - began
    connection.execute("DROP TABLE bench_raw")
    return len(made) / seconds


def measured(connection: Connection, store: Store, dsn: str, made: Sequence[Row], supervisor: Supervisor) -> dict[str, float]:
    """Keep all, as the projector does it, and recall from them."""
    name = store.kind
    found = {f"{name}: notes": float(len(made))} | kept(connection, store, made, Processor(supervisor, name))
    connection.execute("ANALYZE") if name == "postgres" else None
    parts = Parts(store, MiniLM())
    memory = Recall(dsn, cast(Store, parts), lambda: parts, Keys(), lambda: NOW_MS / 1000)
    chosen = random.Random(11)
    for whose, agent in (("a tenant", ""), ("an agent", "agent/00000000-0000-4000-8000-000000000042")):
        parts.took.clear()
        processor = Processor(supervisor, name)
        ours = time.process_time()
        p50, p95 = timed(lambda agent=agent: memory.recall(TENANT, Query(" ".join(chosen.choices(WORDS, CHANCES, k=8)), agent)))
        ours = (time.process_time() - ours) * 1000 / (TIMES + WARM)
        found[f"{name}: recall of {whose} p50 ms"], found[f"{name}: recall of {whose} p95 ms"] = p50, p95
        found[f"{name}: recall of {whose} CPU here ms"] = ours
        found[f"{name}: recall of {whose} CPU of the server ms"] = processor.used_s() * 1000 / (TIMES + WARM)
        for part, took in parts.took.items():
            median, last = statistics.median(took), statistics.quantiles(took, n=20)[18]
            found[f"{name}: recall of {whose}: {part} p50 ms"], found[f"{name}: recall of {whose}: {part} p95 ms"] = median, last
        found[f"{name}: limit: embedding the question p95 ms"] = statistics.quantiles(parts.took["embedding"], n=20)[18]
        say(f"{name}: recall of {whose} p50 {p50:.1f}, p95 {p95:.1f} ms")
    return found


def kept(connection: Connection, store: Store, made: Sequence[Row], processor: Processor) -> dict[str, float]:
    """Into a build that is live then; nothing where an earlier run did."""
    before = builds.live(connection)
    if before is not None and (before.store, sum(n for *_, n, _ in store.counts(before.number))) == (store.kind, len(made)):
        say(f"{store.kind}: {len(made)} notes are there")
        return {}
    build = builds.begin(connection, store, MiniLM())
    began, ours = time.perf_counter(), time.process_time()
    done = 0
    for some in batches(made):
        with connection.transaction():
            store.put(connection, build.number, some)
        done += len(some)
        if done % (BATCH * 40) == 0:
            say(f"{store.kind}: {done} notes in {time.perf_counter() - began:.0f} s")
    seconds, ours = time.perf_counter() - began, time.process_time() - ours
    builds.swap(connection, build)
    say(f"{store.kind}: {len(made) / seconds:,.0f} notes/s")
    return {
        f"{store.kind}: kept notes/s": len(made) / seconds,
        f"{store.kind}: kept, CPU here us a note": ours * 1e6 / len(made),
        f"{store.kind}: kept, CPU of the server us a note": processor.used_s() * 1e6 / len(made),
    }


class Parts:
    """A store and an embedder that say how long each of their answers took (ms)."""

    dimensions = DIMENSIONS

    def __init__(self, store: Store, model: MiniLM) -> None:
        self._store, self._model = store, model
        self.kind, self.name = store.kind, model.name
        self.took: dict[str, list[float]] = defaultdict(list)

    def embed(self, texts: Sequence[str]) -> Any:
        return self._timed("embedding", self._model.embed, texts)

    def candidates(self, *asked: Any) -> Any:
        return self._timed("candidates", self._store.candidates, *asked)

    def _timed(self, part: str, ask: Callable[..., Any], *asked: Any) -> Any:
        began = time.perf_counter()
        answer = ask(*asked)
        self.took[part].append((time.perf_counter() - began) * 1000)
        return answer


class Processor:
    """The CPU time that a server takes from now on, with all its processes."""

    def __init__(self, supervisor: Supervisor, name: str) -> None:
        [state] = [state for state in supervisor.states() if state.name == name]
        assert state.pid is not None
        self._pid = state.pid
        self._before = self._ticks()

    def used_s(self) -> float:
        return (self._ticks() - self._before) / os.sysconf("SC_CLK_TCK")

    def _ticks(self) -> int:
        """Of the process, of those it waited for, and of its children."""
        parents: dict[int, tuple[int, int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                told = path.read_text().rpartition(") ")[2].split()
            except OSError:  # it ended meanwhile
                continue
            parents[int(path.parent.name)] = int(told[1]), sum(map(int, told[11:15]))
        mine = {self._pid}
        while more := {pid for pid, (parent, _) in parents.items() if parent in mine} - mine:
            mine |= more
        return sum(parents[pid][1] for pid in mine if pid in parents)


TIMES, WARM = 200, 10


def timed(ask: Callable[[], object]) -> tuple[float, float]:
    """(p50, p95) in ms, after a few to warm up."""
    for _ in range(WARM):
        ask()
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    quantiles = statistics.quantiles(took, n=20)
    return statistics.median(took), quantiles[18]


def say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
