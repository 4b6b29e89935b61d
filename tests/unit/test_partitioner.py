"""One partitioner: frozen answers, agreement with the client that Faust rests on, and what it refuses."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from chimera.eventlog.partitioner import BadKey, law_key, lies_right, partition_for

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "partitions.json").read_text(encoding="utf-8"))["vectors"]

ordinary_keys = st.text(min_size=1).filter(lambda key: not key.startswith("law/") and key.isprintable())


def test_every_frozen_key_still_lies_where_it_lay() -> None:
    assert [v for v in GOLDEN if partition_for(v["key"], v["partitions"]) != v["partition"]] == []


def test_ten_thousand_random_keys_lie_where_aiokafka_puts_them() -> None:
    theirs, rng = DefaultPartitioner(), random.Random(1)
    keys = ["agent/" + "".join(rng.choices("0123456789abcdef-é", k=rng.randint(1, 40))) for _ in range(10_000)]
    all_partitions = list(range(24))
    assert [k for k in keys if partition_for(k, 24) != theirs(k.encode(), all_partitions, all_partitions)] == []


@given(ordinary_keys, st.integers(1, 100))
def test_any_key_lies_on_one_existing_partition_and_is_found_right_there_only(key: str, partitions: int) -> None:
    home = partition_for(key, partitions)
    assert [p for p in range(partitions) if lies_right(key.encode(), p, partitions)] == [home]


@given(st.binary(), st.integers(0, 23))
def test_asking_whether_any_bytes_lie_right_never_raises(key: bytes, partition: int) -> None:
    assert lies_right(key, partition, 24) in (True, False)


def test_a_record_without_a_key_lies_nowhere_right() -> None:
    assert not any(lies_right(None, p, 24) or lies_right(b"", p, 24) for p in range(24))


def test_the_law_of_a_partition_lies_on_that_partition() -> None:
    assert [partition_for(law_key(n), 24) for n in range(24)] == list(range(24))


@pytest.mark.parametrize("key", ["", "law/", "law/24", "law/-1", "law/07", "law/+7", "law/x", "law/²", "law/٣"])
def test_a_key_that_no_stream_can_have_is_refused(key: str) -> None:
    with pytest.raises(BadKey):
        partition_for(key, 24)
