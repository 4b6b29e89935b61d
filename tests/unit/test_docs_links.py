"""Pages lead where they say: every relative link has its file, and every name in a code link is defined in that file."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md") if path.exists()),
]
LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")


def links(page: Path) -> list[tuple[str, str]]:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return [(label, target) for label, target in LINK.findall(text) if not re.match(r"[a-z]+:", target)]


def defined(path: Path) -> set[str]:
    """Functions, classes, constants of a module, and its classes' methods as Class.method."""
    names: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names.add(node.name)
            names |= {f"{node.name}.{m.name}" for m in node.body if isinstance(m, ast.FunctionDef | ast.AsyncFunctionDef)}
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_its_file_and_name(page: Path) -> None:
    wrong = []
    for label, target in links(page):
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists():
            wrong.append(f"{label}: {target} does not exist")
        elif anchor and anchor not in anchors(path):
            wrong.append(f"{label}: no heading #{anchor} in {file or page.name}")
        elif path.suffix == ".py" and label.startswith("`") and "/" not in label and label.strip("`") not in defined(path):
            wrong.append(f"{label} is not defined in {file}")
    assert not wrong, "\n".join(wrong)


def test_the_walk_names_enough_of_the_code_to_follow_it() -> None:
    named = [target for label, target in links(ROOT / "docs" / "one-event.md") if label.startswith("`") and target.endswith(".py")]
    assert len(named) >= 40
    rooms = {target.split("/")[2] for target in named}
    assert rooms >= {"audit", "cli", "commands", "eventlog", "events", "mcp", "policy", "processors", "projections"}


def test_a_name_that_moved_away_is_noticed(tmp_path: Path) -> None:
    module = tmp_path / "a.py"
    module.write_text("LIMIT: int = 3\nclass A:\n    async def b(self) -> None: ...\ndef c() -> None: ...\n")
    assert defined(module) == {"LIMIT", "A", "A.b", "c"}


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| \*\*(.+?)\*\*", (ROOT / "docs" / "glossary.md").read_text(), flags=re.MULTILINE)
    assert len(words) >= 50
    assert words == sorted(words, key=str.lower)
