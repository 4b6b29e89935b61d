"""Content credentials: what a picture or film says of its making, signed, read by two readers, and broken by a changed byte."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from chimera.commands.keys import MEDIA_KEY, make_keys
from chimera.events import records as rec
from chimera.mcp.sandbox.art import film, picture
from chimera.media import credentials
from chimera.media.credentials import ALGORITHMIC, COMPOSITE, LABEL, Credentials, Statement
from chimera.media.store import Asset, MediaError
from chimera.processors.imaging import Media
from chimera.processors.worker import Worker
from tests.jumbf import Found, read_mp4, read_png
from tests.studiohouse import AVA, house_with, run
from tests.swarmhouse import Keys

STATEMENT = Statement("agent/ava 1.3.1", "agent/ava", "acme", "ab" * 32, "record-1", "ideogram")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Credentials:
    home = tmp_path_factory.mktemp("home")
    make_keys(home)
    return Credentials(home / "keys" / MEDIA_KEY)


def signed(key: Credentials, body: bytes, media_type: str, folder: Path, statement: Statement = STATEMENT) -> bytes:
    (folder / "plain").write_bytes(body)
    key.sign(folder / "plain", folder / "signed", media_type, statement)
    return (folder / "signed").read_bytes()


@pytest.mark.parametrize(
    ("body", "media_type"), [(picture("a pot of soup"), "image/png"), (film("a walk at dusk", 2), "video/mp4")]
)
def test_a_file_says_what_made_it_for_whom_under_which_policy(
    body: bytes, media_type: str, key: Credentials, tmp_path: Path
) -> None:
    assert credentials.read(body, media_type) is None
    made = signed(key, body, media_type, tmp_path)
    told = credentials.read(made, media_type, key.chain)
    assert told is not None
    assert told["validation_state"] == "Trusted"
    manifest = told["manifests"][told["active_manifest"]]
    said = {each["label"]: each["data"] for each in manifest["assertions"]}
    (action,) = said["c2pa.actions.v2"]["actions"]
    assert (action["action"], action["digitalSourceType"]) == ("c2pa.created", ALGORITHMIC)
    assert said[LABEL] == {"agent": "agent/ava", "tenant": "acme", "policy": "ab" * 32, "record": "record-1"}
    broken = bytearray(made)
    broken[-60] ^= 1
    told = credentials.read(bytes(broken), media_type, key.chain)
    assert told is not None
    assert told["validation_state"] == "Invalid"


@pytest.mark.parametrize(
    ("read", "body", "media_type"),
    [(read_png, picture("a pot of soup"), "image/png"), (read_mp4, film("a walk at dusk", 2), "video/mp4")],
)
def test_another_reader_finds_the_same_and_checks_signature_and_hashes_itself(
    read: Callable[[bytes], Found], body: bytes, media_type: str, key: Credentials, tmp_path: Path
) -> None:
    made = signed(key, body, media_type, tmp_path)
    found = read(made)
    assert found.assertions[LABEL]["record"] == "record-1"
    assert found.assertions["c2pa.actions.v2"]["actions"][0]["digitalSourceType"] == ALGORITHMIC
    assert "CN=media" in found.subject
    broken = bytearray(made)
    broken[-30] ^= 1
    with pytest.raises(AssertionError, match="not the one that was signed"):
        read(bytes(broken))


def test_what_an_agent_shows_carries_its_credentials_and_is_an_asset_made_from_the_order_s(
    key: Credentials, tmp_path: Path
) -> None:
    house = house_with(tmp_path, "video")
    house._others[1] = Worker(house.profiles, Keys(), media=Media(house.gate.files.store, None, key)).role()
    run(house, house.live)
    brought = house.of(rec.EffectEnded)[1].assets[0]
    shown = house.of(rec.ArtifactProduced)[-1].content["assets"][0]
    assert (shown["role"], shown["derived_from"][0]["sha256"]) == ("final", brought.partition(".")[0])
    (post,) = house.gram.posts("ava.cooks")
    assert (post.media, brought.rpartition(".")[2]) == (f"{shown['sha256']}.mp4", "mp4")
    body = asyncio.run(house.gate.files.store.get(Asset(shown["sha256"], "mp4", 0)))
    said = read_mp4(body).assertions[LABEL]
    order = next(r for r in house.records if isinstance(r.data, rec.ArtifactProduced) and r.data.kind == "video")
    policy = next(r.data for r in house.records if isinstance(r.data, rec.PolicyAdopted))
    assert (said["agent"], said["policy"], said["record"]) == (AVA, policy.digest, order.id)


def test_a_film_that_was_cut_says_that_it_was_put_together(key: Credentials, tmp_path: Path) -> None:
    made = signed(key, film("a walk", 2), "video/mp4", tmp_path, STATEMENT._replace(composite=True))
    told = credentials.read(made, "video/mp4")
    assert told is not None
    (manifest,) = told["manifests"].values()
    said = {each["label"]: each["data"] for each in manifest["assertions"]}
    assert read_mp4(made).assertions["c2pa.actions.v2"]["actions"][0]["digitalSourceType"] == COMPOSITE
    assert said["c2pa.actions.v2"]["actions"][0]["digitalSourceType"] == COMPOSITE


def test_a_key_that_others_may_read_or_that_is_none_signs_nothing(tmp_path: Path) -> None:
    assert credentials.at(tmp_path / "none.pem") is None
    path = tmp_path / MEDIA_KEY
    assert credentials.make_key(path, "chimera-test")
    before = path.read_bytes()
    assert not credentials.make_key(path, "chimera-test")
    assert path.read_bytes() == before
    path.chmod(0o644)
    with pytest.raises(MediaError, match="chmod 600"):
        Credentials(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(MediaError, match="cannot be signed with"):
        Credentials(path)
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


def test_bytes_that_are_no_picture_take_no_credentials(key: Credentials, tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"agent/ava 1\.3\.1 takes no content credentials"):
        signed(key, b"hello", "image/png", tmp_path)
