"""Golden corpora without any server, key or installation: what the log said of a real run, this code says still."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from chimera.replay import corpus

GOLDEN = sorted(Path("tests/golden/corpus").iterdir())


@pytest.mark.parametrize("directory", GOLDEN, ids=lambda path: path.name)
def test_a_golden_corpus_folds_to_the_same_rulings_versions_and_states(
    directory: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(socket.socket, "connect", lambda *where: asked.append(where))
    monkeypatch.setenv("CHIMERA_HOME", str(tmp_path / "empty"))
    assert corpus.check(directory, None) == []
    assert asked == []
    assert not (tmp_path / "empty").exists()


def test_a_corpus_notices_one_changed_vote() -> None:
    held = corpus.load(GOLDEN[0])
    at = next(n for n, raw in enumerate(held.records) if ("ce_type", b"JudgeVerdict") in raw.headers)
    vote = held.records[at]
    changed = [*held.records]
    assert vote.value is not None
    changed[at] = vote._replace(value=vote.value.replace(b'"attempt":1', b'"attempt":2'))
    assert changed[at] != vote
    now, states = corpus.ruled(changed, held.about["partitions"], held.about["root_public"])
    assert now != held.expected
    assert states != held.about["states"]
