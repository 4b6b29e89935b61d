"""docs/law.md explains every guard of the table and every reason that the fold can give."""

from __future__ import annotations

import ast
from pathlib import Path

from chimera.events.law import TABLE, THERE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "law.md").read_text()
FOLD = [*(ROOT / "chimera/events/does").glob("*.py"), ROOT / "chimera/events/fold.py", ROOT / "chimera/events/partition.py"]
GIVES_REASONS = {"fail", "again", "close_task", "cancel", "end_attempt"}


def functions() -> list[ast.FunctionDef]:
    return [node for path in FOLD for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def texts(node: ast.AST) -> set[str]:
    """The texts that an expression may have as its value (not those that it only compares with)."""
    if isinstance(node, ast.Constant):
        return {node.value} if isinstance(node.value, str) else set()
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    if isinstance(node, ast.BoolOp):
        return {text for value in node.values for text in texts(value)}
    return set()


def reasons() -> set[str]:
    """Texts that guards and handlers return or assign as `reason`, that end attempts and tasks, and rulings' own."""
    found: set[str] = set()
    for function in functions():
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None and "str" in ast.unparse(function.returns or node):
                found |= texts(node.value)
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).strip("(").split(",")[0] in ("reason", "ask"):
                found |= texts(node.value.elts[0] if isinstance(node.value, ast.Tuple) else node.value)
            elif isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                if name == "Ruling":
                    found |= texts(node.args[1])
                elif name in GIVES_REASONS:
                    found |= {text for argument in node.args for text in texts(argument)}
    return found - {""}


def test_every_reason_that_the_fold_gives_is_explained() -> None:
    given = reasons()
    assert {"unreadable", "no_policy", "too_frequent", "audit_sample", "payee", "not_entitled", "replaced"} <= given
    assert {reason for reason in given if f"`{reason}`" not in PAGE} == set()


def test_every_guard_of_the_table_is_named() -> None:
    guards = {guard.__name__ for row in TABLE.values() for guard in (*THERE, *row.counts_when)}
    assert {guard for guard in guards if f"`{guard}`" not in PAGE} == set()


def test_a_reason_is_told_by_the_guards_that_the_page_names_for_it() -> None:
    said: dict[str, set[str]] = {}
    guards = {guard.__name__ for row in TABLE.values() for guard in (*THERE, *row.counts_when)}
    for function in functions():
        if function.name in guards:
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and node.value is not None:
                    for text in texts(node.value):
                        said.setdefault(text, set()).add(function.name)
    section = PAGE.split("## Why a record is void")[1].split("\n## ")[0]
    rows = {line.split("|")[1].strip().strip("`"): line.split("|")[2] for line in section.splitlines() if line.startswith("| `")}
    assert set(said) <= set(rows)
    for reason, names in said.items():
        where = rows[reason] + (rows["duplicate"] if reason == "conflict" else "")
        assert {name for name in names if f"`{name}`" not in where} == set(), reason
