"""How fast memory is: texts embedded on one core, notes kept, and how long recalling takes, each beside its limit of the same run.

    python benchmarks/recall.py [--notes N] [--weaviate BINARY] [--json]

Embedding is counted by CPU time. Notes that are kept have made-up vectors in clusters, as those of texts lie. Weaviate is measured
where --weaviate or CHIMERA_TEST_WEAVIATE names a built server.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chimera.events.notes import MemoryNoted
from chimera.memory import builds
from chimera.memory.contract import Query
from chimera.memory.embedding import DIMENSIONS, VOCABULARY, MiniLM
from chimera.memory.pgvector import PgVector, _line
from chimera.memory.recall import Recall
from chimera.memory.store import Row, Store
from chimera.memory.weaviate import Weaviate
from chimera.projections.checkpoints import connect
from chimera.projections.schema import migrate
from chimera.projections.write import Connection
from tests.conftest import _postgres_process
from tests.memoryhouse import NOW_MS, Keys, note
from tests.memoryservers import weaviate_server

TENANT = "acme"
AGENTS = 100
BATCH = 256
WORDS = [word for word in VOCABULARY.read_text().splitlines() if word.isascii() and word.isalpha() and len(word) > 3][300:6_300]
CHANCES = [1 / (n + 20) for n in range(len(WORDS))]
"""Some words are common, most are rare; what every text holds (about the first 300) no word index keeps."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--notes", type=int, default=100_000)
    arguments.add_argument("--weaviate", help="A built server.")
    arguments.add_argument("--json", action="store_true", help="One JSON object, figures by name.")
    given = arguments.parse_args()
    if given.weaviate:
        os.environ["CHIMERA_TEST_WEAVIATE"] = given.weaviate
    found = embedding()
    made = rows_of(given.notes)
    with _postgres_process() as dsn:
        migrate(dsn)
        with connect(dsn) as connection:
            found |= {"copy without indexes, notes/s": copied(connection, made[: min(len(made), 20_000)])}
            with closing(PgVector(dsn)) as store:
                found |= kept(connection, store, dsn, made)
            binary = os.environ.get("CHIMERA_TEST_WEAVIATE")
            if binary and Path(binary).exists():
                with weaviate_server() as server, closing(Weaviate(lambda: server.place)) as store:
                    found |= kept(connection, store, dsn, made[: min(len(made), 20_000)])
    if given.json:
        print(json.dumps(found))
        return
    for name, figure in found.items():
        print(f"{name:<58} {figure:>12,.1f}")


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
    connection.execute("CREATE TABLE bench_raw (line text)")
    began = time.perf_counter()
    for some in batches(made):
        with connection.cursor() as cursor, cursor.copy("COPY bench_raw FROM STDIN") as copy:
            copy.write("".join(_line(row).replace("\t", " ") for row in some).encode())
    return len(made) / (time.perf_counter() - began)


def kept(connection: Connection, store: Store, dsn: str, made: Sequence[Row]) -> dict[str, float]:
    """Keep all, as the projector does it, and recall from them."""
    build = builds.begin(connection, store, MiniLM.name)
    builds.swap(connection, build)
    began = time.perf_counter()
    for some in batches(made):
        with connection.transaction():
            store.put(connection, build.number, some)
    seconds = time.perf_counter() - began
    print(f"{store.kind}: {len(made) / seconds:,.0f} notes/s", file=sys.stderr, flush=True)
    connection.execute("ANALYZE") if store.kind == "postgres" else None
    model = MiniLM()
    memory = Recall(dsn, store, lambda: model, Keys(), lambda: NOW_MS / 1000)
    chosen = random.Random(11)
    alone = timed(lambda: model.embed([" ".join(chosen.choices(WORDS, CHANCES, k=8))]))
    agent = "agent/00000000-0000-4000-8000-000000000042"
    whole = timed(lambda: memory.recall(TENANT, Query(" ".join(chosen.choices(WORDS, CHANCES, k=8)))))
    one = timed(lambda: memory.recall(TENANT, Query(" ".join(chosen.choices(WORDS, CHANCES, k=8)), agent)))
    print(f"{store.kind}: recall p95 {whole[1]:.1f} ms of a tenant, {one[1]:.1f} ms of an agent", file=sys.stderr, flush=True)
    name = store.kind
    return {
        f"{name}: notes": len(made),
        f"{name}: kept notes/s": len(made) / seconds,
        f"{name}: limit: embedding the question p95 ms": alone[1],
        f"{name}: recall of a tenant p50 ms": whole[0],
        f"{name}: recall of a tenant p95 ms": whole[1],
        f"{name}: recall of an agent p50 ms": one[0],
        f"{name}: recall of an agent p95 ms": one[1],
    }


def timed(ask: Callable[[], object], times: int = 200) -> tuple[float, float]:
    """(p50, p95) in ms, after a few to warm up."""
    for _ in range(10):
        ask()
    took = []
    for _ in range(times):
        began = time.perf_counter()
        ask()
        took.append((time.perf_counter() - began) * 1000)
    quantiles = statistics.quantiles(took, n=20)
    return statistics.median(took), quantiles[18]


if __name__ == "__main__":
    main()
