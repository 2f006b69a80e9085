"""Rooms import downwards only, and no module takes part in an import cycle (invariant 8)."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "barrelman"
FLOORS = {
    "errors": 0, "records": 1, "query": 2, "rules": 3, "engine": 4, "store": 4, "sinks": 4,
    "pushdown": 4, "detection": 5, "service": 6, "settings": 7, "server": 8, "cli": 9,
    "__main__": 10,
}  # fmt: skip


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(source: str, module: str) -> Iterator[str]:
    """What a module imports from the package, also inside functions, without the `barrelman.`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: a relative import hides its floor"
            # `from barrelman import x` runs the package root; only the version is there to take.
            names = [
                f"barrelman.{alias.name if alias.name == '__version__' else ''}"
                if node.module == "barrelman"
                else f"{node.module}.{alias.name}"
                for alias in node.names
            ]
        else:
            continue
        for name in names:
            root, _, rest = name.partition(".")
            if root == "barrelman":
                yield rest


def faults(source: str, module: str) -> list[str]:
    """Every import of `source` that its floor forbids."""
    here = module.partition(".")[0]
    found = []
    for target in imports(source, module):
        there = target.partition(".")[0]
        if there == "__version__":
            continue
        if there not in FLOORS:
            found.append(f"{module} imports the package root ({target or 'barrelman'})")
        elif there != here and FLOORS[there] >= FLOORS[here]:
            found.append(f"{module} imports {target}, which is not below it")
    return found


def module_of(target: str) -> str:
    """The module a dotted import names: itself, or the one its last part is defined in."""
    return target if target in MODULES else target.rpartition(".")[0]


def test_every_module_stands_on_a_floor() -> None:
    rooms = {name.partition(".")[0] for name in MODULES if name}
    assert rooms <= FLOORS.keys(), f"not on any floor: {rooms - FLOORS.keys()}"


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_imports_point_downwards(module: str) -> None:
    assert not faults(MODULES[module].read_text(encoding="utf-8"), module)


def test_no_import_cycles() -> None:
    graph = {
        name: {module_of(target) for target in imports(path.read_text(encoding="utf-8"), name)}
        for name, path in MODULES.items()
        if name
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "source", "allowed"),
    [
        ("engine.match", "from barrelman.rules import rule", True),
        ("engine.match", "from barrelman.engine import other", True),
        ("cli.main", "from barrelman import __version__", True),
        ("engine.match", "from barrelman.store import events", False),
        ("store.events", "def f():\n    import barrelman.pushdown.render", False),
        ("query.kql", "def f():\n    from barrelman.settings.input import x", False),
        ("query.kql", "import barrelman", False),
        ("query.kql", "from barrelman import query", False),
    ],
)
def test_the_check_itself(module: str, source: str, allowed: bool) -> None:
    assert (not faults(source, module)) is allowed
