"""Which partition a stream lives on: the one function that every writer and every reader asks.

The rule not to break: the answer for a key never changes. All that happens to an agent is one ordered partition, and
only because every client computes the same murmur2 (librdkafka's own default, CRC32, disagrees with Java's).
"""

from __future__ import annotations

from confluent_kafka import murmur2

from chimera.errors import ChimeraError

LAW_PREFIX = "law/"
"""Keys `law/<n>` are not hashed: the law is adopted per partition, so its key names the partition it lies on."""


class BadKey(ChimeraError):
    """A key that no stream can have: empty, or a `law/` key that names no partition."""


def partition_for(key: str, partitions: int) -> int:
    """The partition of stream `key` on a topic with `partitions` partitions.

    murmur2 of the UTF-8 bytes, as Java, aiokafka and librdkafka's `murmur2_random` compute it; `law/<n>` is n itself.
    Raises `BadKey` for an empty key, which other partitioners would spread at random, and for a law key out of range.
    """
    if partitions < 1:
        raise ValueError(f"a topic has at least one partition, got {partitions}")
    if not key:
        raise BadKey("a record key is never empty: use the stream key, such as 'agent/<uuid>'")
    if key.startswith(LAW_PREFIX):
        return _law_partition(key, partitions)
    return murmur2(key.encode(), partitions)


def place(key: str, partitions: int) -> int:
    """`partition_for`, total, for readers: -1 for a key that belongs nowhere."""
    try:
        return partition_for(key, partitions)
    except BadKey:
        return -1


def lies_right(key: bytes | None, partition: int, partitions: int) -> bool:
    """Whether a record found with this raw key on `partition` is where its key belongs; total, for readers."""
    try:
        return key is not None and partition_for(key.decode(), partitions) == partition
    except (BadKey, UnicodeDecodeError):
        return False


def law_key(partition: int) -> str:
    """The key under which the law is adopted on one partition."""
    return f"{LAW_PREFIX}{partition}"


def _law_partition(key: str, partitions: int) -> int:
    number = key[len(LAW_PREFIX) :]
    # One spelling per partition: '07' or '+7' would be further keys for the same stream.
    if not (number.isascii() and number.isdigit() and str(int(number)) == number and int(number) < partitions):
        raise BadKey(f"key {key!r} names no partition: law keys are 'law/0' to 'law/{partitions - 1}'")
    return int(number)
