"""Personal fields: sealed under a key per subject, gone with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.commands.subjects import SubjectForgotten, SubjectKeyFiles
from chimera.events.envelope import dump
from chimera.events.records import Signal, SignalObserved
from chimera.events.sealed import Forgotten, KeysAtHand, Sealed, seal, unseal


class KeysInMemory:
    def __init__(self) -> None:
        self.keys: dict[str, bytes] = {}

    def key_for(self, subject: str) -> bytes:
        return self.keys.setdefault(subject, bytes([len(self.keys) + 1]) * 32)

    def known_key(self, subject: str) -> bytes | None:
        return self.keys.get(subject)


@given(subject=st.text(max_size=40), words=st.text(max_size=400))
def test_what_is_sealed_comes_back_as_it_was(subject: str, words: str) -> None:
    keys = KeysInMemory()
    assert unseal(keys, seal(keys, subject, words)) == words


@given(more=st.text(max_size=60))
def test_no_word_of_a_person_reaches_the_log_in_clear(more: str) -> None:
    words = f"meet me at {more}"  # a space cannot occur in base64 by chance
    keys = KeysInMemory()
    said = Signal(thread="t", external_id="1", author=seal(keys, "p", "@outsider"), text=seal(keys, "p", words), observed_at=1)
    value = dump(SignalObserved(source="x", number=1, cursor="c", items=[said]))
    assert b"@outsider" not in value
    assert b"meet me" not in value


def test_two_seals_of_the_same_words_differ() -> None:
    keys = KeysInMemory()
    assert seal(keys, "p", "hello").ciphertext != seal(keys, "p", "hello").ciphertext


def test_an_altered_or_moved_seal_is_noticed() -> None:
    keys = KeysInMemory()
    sealed = seal(keys, "p", "hello")
    other = seal(keys, "q", "hello")
    with pytest.raises(ValueError, match="altered"):
        unseal(keys, sealed.model_copy(update={"nonce": other.nonce}))
    with pytest.raises(Forgotten):
        unseal(keys, sealed.model_copy(update={"subject": "q"}))


def test_a_forgotten_subject_can_be_read_and_sealed_no_more(tmp_path: Path) -> None:
    keys = SubjectKeyFiles(tmp_path / "subjects")
    sealed = seal(keys, "p", "hello")
    assert unseal(SubjectKeyFiles(tmp_path / "subjects"), sealed) == "hello"
    keys.forget("p")
    keys.forget("p")
    with pytest.raises(Forgotten):
        unseal(keys, sealed)
    with pytest.raises(SubjectForgotten):
        seal(keys, "p", "again")


def test_key_files_are_private_and_do_not_name_the_subject(tmp_path: Path) -> None:
    keys = SubjectKeyFiles(tmp_path / "subjects")
    assert keys.key_for("alice@example.org") == keys.key_for("alice@example.org")
    (file,) = (tmp_path / "subjects").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert "alice" not in file.name


def test_a_sealed_value_is_closed() -> None:
    with pytest.raises(ValueError, match="extra"):
        Sealed.model_validate({"subject": "p", "nonce": "", "ciphertext": "", "key_commitment": "", "clear": "oops"})


def test_a_key_at_hand_is_looked_up_once_until_afresh_and_one_that_is_not_there_each_time() -> None:
    files = KeysInMemory()
    held = KeysAtHand(files)
    assert held.known_key("person/mia") is None
    key = held.key_for("person/mia")
    assert held.known_key("person/mia") == key
    files.keys.clear()
    assert held.known_key("person/mia") == key
    held.afresh()
    assert held.known_key("person/mia") is None
