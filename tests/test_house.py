"""The house: imports run one way, in no circle, and no room is too full to find something in it.

All imports count, those inside functions and under TYPE_CHECKING too: what is imported late to hide
a circle is a circle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Package → those it may import.
BELOW = {
    "graphs": (),
    "pruners": ("graphs",),
    "metanet": ("graphs",),
    "training": ("metanet", "pruners", "graphs"),
    "metaprune": ("training", "metanet", "pruners", "graphs"),
}
MOST_FILES = 13
"""Python files of a folder, beside its subfolders and `__init__.py`."""

Imports = Mapping[str, frozenset[str]]


def _modules(package: str) -> dict[str, Path]:
    """Dotted name → file."""
    found = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def _named(source: str, module: str, package: bool) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a file imports; the name is empty for `import module`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")
            base = base[: len(base) + package - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((origin, alias.name) for alias in node.names)


def _imports(modules: Mapping[str, Path]) -> dict[str, frozenset[str]]:
    """Module → the modules it imports, in its own package and in others."""
    found = {}
    for module, file in modules.items():
        named = _named(file.read_text(), module, file.name == "__init__.py")
        targets = (
            f"{origin}.{name}" if f"{origin}.{name}" in modules else origin
            for origin, name in named
        )
        found[module] = frozenset(t for t in targets if t.split(".")[0] in BELOW) - {module}
    return found


def circles(imports: Imports) -> list[list[str]]:
    """One circle of imports for each knot of modules, as a closed path; empty where none is."""
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in done:
            return
        for target in sorted(imports.get(module, ())):
            visit(target, [*path, module])
        done.add(module)

    for module in sorted(imports):
        visit(module, [])
    return found


def test_a_circle_is_found_wherever_it_is_closed() -> None:
    open_ = {"a": frozenset({"b", "c"}), "b": frozenset({"c"}), "c": frozenset[str]()}
    assert circles(open_) == []
    assert circles({**open_, "c": frozenset({"a"})})[0] == ["a", "b", "c", "a"]
    late = "if TYPE_CHECKING:\n from p import x\ndef f():\n from .q import y"
    assert ("p", "x") in list(_named(late, "p.r", False))
    assert ("p.q", "y") in list(_named(late, "p.r", False))


@pytest.mark.parametrize("package", BELOW)
def test_imports_run_one_way(package: str) -> None:
    allowed = {package, *BELOW[package]}
    upwards = {
        f"{module} imports {target}"
        for module, targets in _imports(_modules(package)).items()
        for target in targets
        if target.split(".")[0] not in allowed
    }
    assert not upwards


@pytest.mark.parametrize("package", BELOW)
def test_imports_close_no_circle(package: str) -> None:
    assert [" → ".join(circle) for circle in circles(_imports(_modules(package)))] == []


@pytest.mark.parametrize("package", BELOW)
def test_no_folder_is_too_full(package: str) -> None:
    folders = {file.parent for file in _modules(package).values()}
    counts = {
        str(folder.relative_to(ROOT)): len(
            [file for file in folder.glob("*.py") if file.name != "__init__.py"]
        )
        for folder in folders
    }
    assert {folder: n for folder, n in counts.items() if n > MOST_FILES} == {}


def test_no_folder_of_tests_is_passed_over(pytestconfig: pytest.Config) -> None:
    passed_over = pytestconfig.getini("norecursedirs")
    folders = {
        part
        for file in (ROOT / "tests").rglob("test_*.py")
        for part in file.relative_to(ROOT).parts
    }
    assert not [f for f in folders for pattern in passed_over if fnmatch(f, pattern)]
