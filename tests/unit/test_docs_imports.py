"""The import rules of the house (pyproject.toml, importlinter): complete, and able to find what breaks them."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import grimp
import importlinter.configuration
import pytest
from importlinter.contracts.forbidden import ForbiddenContract

ROOT = Path(__file__).parents[2]
CONTRACTS: list[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
importlinter.configuration.configure()
SESSION = {"root_packages": ["chimera"], "include_external_packages": "True"}


def rooms() -> set[str]:
    inside = (ROOT / "chimera").iterdir()
    return {f"chimera.{path.stem}" for path in inside if path.suffix == ".py" or (path / "__init__.py").is_file()}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("chimera", include_external_packages=True, cache_dir=None)


def contract(beginning: str) -> dict[str, Any]:
    return next(each for each in CONTRACTS if each["name"].startswith(beginning))


def is_kept(given: dict[str, Any], graph: grimp.ImportGraph) -> bool:
    options = {key: value for key, value in given.items() if key not in ("name", "type")}
    options["allow_indirect_imports"] = str(options.get("allow_indirect_imports", False))
    return ForbiddenContract(given["name"], SESSION, options).check(copy.deepcopy(graph), verbose=False).kept


def test_a_new_room_must_be_told_the_rules() -> None:
    inside = rooms() - {"chimera.__init__"}
    for beginning, own in (
        ("the language and the law", {"chimera.events", "chimera.errors"}),
        ("policy imports", {"chimera.policy", "chimera.events", "chimera.errors", "chimera.shapes"}),
    ):
        assert inside - own - set(contract(beginning)["forbidden_modules"]) == set()
    assert inside - {"chimera.mcp"} - set(contract("one way out")["source_modules"]) == set()
    assert inside - {"chimera.eventlog"} - set(contract("one door to Kafka")["source_modules"]) == set()


@pytest.mark.parametrize(
    ("beginning", "importer", "imported"),
    [
        ("the language and the law", "chimera.events.fold", "chimera.eventlog.read"),
        ("the language and the law", "chimera.events.records", "confluent_kafka"),
        ("policy imports", "chimera.policy.rules", "chimera.processors.judge"),
        ("replay cannot act", "chimera.projections.engine", "chimera.mcp.gate"),
        ("replay cannot act", "chimera.audit.lines", "chimera.processors.jobs"),
        ("replay cannot act", "chimera.stack.addresses", "chimera.mcp.gate"),  # at one remove: verify reads addresses
        ("the log alone", "chimera.processors.planner", "psycopg"),
        ("the log alone", "chimera.commands.keys", "chimera.projections.engine"),  # at one remove: the runtime reads keys
        ("one way out", "chimera.processors.worker", "httpx2"),
        ("one way out", "chimera.cli.main", "requests"),
        ("one door to Kafka", "chimera.projections.engine", "confluent_kafka"),
        ("Faust is", "chimera.commands.service", "faust"),
    ],
)
def test_a_planted_import_breaks_its_rule(beginning: str, importer: str, imported: str, graph: grimp.ImportGraph) -> None:
    given = contract(beginning)
    planted = copy.deepcopy(graph)
    assert is_kept(given, planted)
    if imported not in planted.modules:
        planted.add_module(imported, is_squashed=True)
    planted.add_import(importer=importer, imported=imported, line_number=1, line_contents=f"import {imported}")
    assert not is_kept(given, planted)
