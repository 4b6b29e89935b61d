"""Key files and fleet files: made once, read strictly, explained when wrong."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from chimera.cli.output import exit_code
from chimera.commands.fleet import load_fleet
from chimera.commands.keys import Keys, KeyTrouble, agent_key, load_keys, make_keys
from chimera.policy.documents import DocumentError

SOUL = "---\nname: ava\nhandles: {x: ava_x}\nvoice: {tone: [warm]}\ntopics: [soup]\n---\nCooks.\n"
POLICY = "---\nboardkit: 1\nname: rules\napprovers: {publish: [kim]}\n---\nBe kind.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ava.md").write_text(SOUL)
    (tmp_path / "ben.md").write_text(SOUL.replace("ava", "ben"))
    (tmp_path / "AGENTS.md").write_text(POLICY)
    return tmp_path


def fleet(folder: Path, text: str, name: str = "fleet.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_keys_are_made_once_and_are_private(tmp_path: Path) -> None:
    first = make_keys(tmp_path)
    again = make_keys(tmp_path)
    assert (first.installation, first.root.id, first.command.id) == (again.installation, again.root.id, again.command.id)
    assert first.installation.root == first.root.id != first.command.id
    for name in ("root.key", "command.key"):
        assert len((tmp_path / "keys" / name).read_bytes()) == 32
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "keys").iterdir()} == {0o600}
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["command.key", "media.pem", "root.key"]


def test_many_who_set_up_at_once_get_the_same_keys(tmp_path: Path) -> None:
    made: list[Keys] = []
    threads = [threading.Thread(target=lambda: made.append(make_keys(tmp_path))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(made) == 8
    assert len({(keys.installation.installation, keys.root.id, keys.command.id) for keys in made}) == 1


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "keys" / "command.key").chmod(0o644)
    with pytest.raises(KeyTrouble, match=r"mode 0644.*chmod 600"):
        load_keys(tmp_path)


@pytest.mark.parametrize("name", ["root.key", "command.key"])
def test_a_lost_key_is_never_replaced(tmp_path: Path, name: str) -> None:
    make_keys(tmp_path)
    (tmp_path / "keys" / name).unlink()
    with pytest.raises(KeyTrouble, match="backup"):
        make_keys(tmp_path)


def test_a_root_key_of_another_installation_is_refused(tmp_path: Path) -> None:
    make_keys(tmp_path / "a")
    make_keys(tmp_path / "b")
    (tmp_path / "a" / "keys" / "root.key").write_bytes((tmp_path / "b" / "keys" / "root.key").read_bytes())
    with pytest.raises(KeyTrouble, match="pins"):
        load_keys(tmp_path / "a")


def test_a_home_without_installation_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(KeyTrouble, match="chimera up"):
        load_keys(tmp_path)


def test_the_same_name_is_the_same_agent_within_one_tenant_of_one_installation() -> None:
    assert agent_key("i", "acme", "ava") == agent_key("i", "acme", "ava")
    assert len({agent_key(i, t, n) for i in ("i", "j") for t in ("acme", "b") for n in ("ava", "ben")}) == 8


def test_a_fleet_is_read_with_its_personas_and_policy(folder: Path) -> None:
    text = "tenant: acme\nallowance: {limit_usd: 2.50, window_s: 60}\nagents:\n  - {name: ava, soul: ava.md, groups: [n]}\n"
    read = load_fleet(fleet(folder, text))
    (ava,) = read.agents
    assert (read.tenant, ava.name, ava.groups, ava.accounts) == ("acme", "ava", ("n",), {"x": "ava_x"})
    assert (str(ava.limit_usd), ava.window_ms) == ("2.5", 60_000)
    assert ava.policy.inline.approvers == {"publish": ["kim"]}


@pytest.mark.parametrize(
    ("agents", "problem"),
    [
        ("  - {name: ava, soul: ava.md}\n  - {name: ava, soul: ben.md}\n", "line 4: 'ava' is there already"),
        ("  - {name: ava, soul: ava.md}\n  - {name: ben, soul: ben.md, accounts: {x: ava_x}}\n", "x account 'ava_x' is ava's"),
        ("  - {name: ava, soul: ava.md}\n  - {name: ben, soul: nowhere.md}\n", "nowhere.md: cannot be read"),
        ("  - {name: ava, soul: ava.md}\n  - {name: ben, soul: ben.md, policy: NO.md}\n", "NO.md: cannot be read"),
    ],
)
def test_a_broken_agent_is_a_problem_and_the_others_stay(folder: Path, agents: str, problem: str) -> None:
    read = load_fleet(fleet(folder, f"tenant: acme\nagents:\n{agents}"))
    assert [agent.name for agent in read.agents] == ["ava"]
    assert problem in read.problems[0].message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tenant: acme\n", "field 'agents': is missing"),
        ("tenant: acme\nagents:\n  - {name: ava, soull: ava.md}\n", "line 3, field 'agents.0.soul"),
        ("tenant: [\n", "not valid YAML"),
        ("tenant: acme\nagents:\n  - {name: 'a/b', soul: ava.md}\n", "agents.0.name"),
    ],
)
def test_a_fleet_that_cannot_be_read_says_where(folder: Path, text: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_fleet(fleet(folder, text))
    assert words in str(caught.value)


def test_a_csv_fleet_is_read_row_by_row(folder: Path) -> None:
    text = "name,soul,groups,x\nava,ava.md,n;s,\n,ben.md,,\nben,ben.md,,ben_y\ncid,ava.md,a,b,c\n"
    read = load_fleet(fleet(folder, text, "fleet.csv"), "acme")
    assert [(agent.name, agent.groups, agent.accounts) for agent in read.agents] == [
        ("ava", ("n", "s"), {"x": "ava_x"}),
        ("ben", (), {"x": "ben_y"}),
    ]
    assert [("line 3" in p.message, "line 5" in p.message) for p in read.problems] == [(True, False), (False, True)]


@pytest.mark.parametrize(
    ("text", "words"), [("name,groups\n", "no column 'soul'"), ("name,soul,grups\n", "'grups'"), ("name,soul\n", "no agents")]
)
def test_a_csv_that_cannot_be_a_fleet_says_why(folder: Path, text: str, words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        load_fleet(fleet(folder, text, "fleet.csv"))


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["applied"], 0),
        (["applied", "refused"], 3),
        (["void"], 3),
        (["rejected", "appended"], 3),
        (["applied", "appended"], 4),
    ],
)
def test_exit_codes_are_a_contract(outcomes: list[str], code: int) -> None:
    assert exit_code(outcomes) == code
