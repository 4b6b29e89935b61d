"""Keys of roles that sign in hardened installations: taken up, kept, and missed."""

from __future__ import annotations

from pathlib import Path

from chimera.commands.keys import RoleKeys, create_private, key_path
from chimera.events.envelope import SigningKey
from chimera.events.state import Law


def put(home: Path, role: str) -> SigningKey:
    """A key file of that role, where there is none yet."""
    path = key_path(home, role)
    path.parent.mkdir(exist_ok=True)
    key = SigningKey.generate()
    create_private(path, key.private_bytes())
    return key


def test_a_role_signs_with_its_key_as_soon_as_the_file_is_there(tmp_path: Path) -> None:
    keys = RoleKeys(tmp_path, ["planner", "judge"])
    live = keys.held
    assert live == {}
    key = put(tmp_path, "judge")
    keys.refresh()
    assert {role: held.id for role, held in live.items()} == {"judge": key.id}


def test_a_key_whose_file_is_gone_or_open_to_others_stays_in_use(tmp_path: Path) -> None:
    key = put(tmp_path, "judge")
    keys = RoleKeys(tmp_path, ["judge"])
    key_path(tmp_path, "judge").chmod(0o644)
    keys.refresh()
    assert keys.held["judge"].id == key.id
    key_path(tmp_path, "judge").unlink()
    keys.refresh()
    assert keys.held["judge"].id == key.id


def test_roles_that_never_sign_need_no_key(tmp_path: Path) -> None:
    put(tmp_path, "planner")
    assert RoleKeys(tmp_path, ["planner", "worker"]).held == {}


def test_a_role_is_missed_where_the_law_lists_keys_and_none_that_is_held(tmp_path: Path) -> None:
    key = put(tmp_path, "judge")
    keys = RoleKeys(tmp_path, ["judge", "executor"])
    assert keys.missing(Law(keys={"command": frozenset({"c"})})) == []
    assert keys.missing(Law(keys={"judge": frozenset({key.id, "older"})})) == []
    assert keys.missing(Law(keys={"judge": frozenset({"another"}), "executor": frozenset({"e"})})) == ["judge", "executor"]
