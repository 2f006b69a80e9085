"""Rules of the house that a machine can see."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "barrelman"
MAX_LINES = 800

# Each dependency is wrapped in one place; the name of a room stands for the whole room.
WRAPPED = {
    "orjson": ("engine/decode.py",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "duckdb": ("store/duck.py",),
    "httpx": ("sinks/http.py",),
    "hyperscan": ("engine/patternset.py",),
    "anyio": ("server/",),
    "isal": ("settings/decompress.py",),
    "prometheus_client": ("server/metrics.py",),
    "pyarrow": ("store/columns.py",),
    "sqlalchemy": ("store/",),
    "starlette": ("server/",),
    "stringzilla": ("engine/find.py",),
    "uvicorn": ("server/listen.py",),
    "zstandard": ("settings/decompress.py", "store/frames.py"),
}
# Below `settings` nobody opens a file, reads the environment or asks for the time.
WORLD = re.compile(
    r"\bos\.environ\b|\bos\.getenv\b|\bsys\.argv\b|\btime\.time\b"
    r"|\bdatetime\.(?:now|utcnow|today)\(|\bsys\.std(?:in|out|err)\b"
)


def tracked() -> list[Path]:
    """Files under version control; in an unpacked archive, every file that would be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        return [
            ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()
        ]
    folders = ("src", "tests", "examples", "benchmarks")
    inside = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    return [path for path in [*ROOT.glob("*.*"), *inside] if "__pycache__" not in path.parts]


def python_files() -> list[Path]:
    return sorted(path for path in tracked() if path.suffix == ".py")


def imported_roots(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def within(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_no_file_is_too_long() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for path in python_files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES
    }
    assert not long


def test_dependencies_stay_in_their_one_place() -> None:
    strays = [
        f"{name} imports {root}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for name in [within(path)]
        for root in imported_roots(path.read_text(encoding="utf-8"))
        if root in WRAPPED and not name.startswith(WRAPPED[root])
    ]
    assert not strays


def test_no_other_dependency_is_imported() -> None:
    known = {*sys.stdlib_module_names, *WRAPPED, "barrelman"}
    strangers = [
        f"{within(path)} imports {root}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for root in imported_roots(path.read_text(encoding="utf-8"))
        if root not in known
    ]
    assert not strangers


@pytest.mark.parametrize(
    "room",
    [
        *("errors.py", "records", "query", "rules", "engine", "store", "sinks", "detection"),
        "service",
    ],
)
def test_nothing_below_settings_asks_the_world(room: str) -> None:
    paths = [PACKAGE / room] if room.endswith(".py") else sorted((PACKAGE / room).rglob("*.py"))
    assert paths
    asked = [
        f"{within(path)}:{number}: {line.strip()}"
        for path in paths
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if WORLD.search(line)
    ]
    assert not asked


@pytest.mark.parametrize("line", ["now = datetime.now(UTC)", "os.environ['X']", "time.time()"])
def test_the_world_is_recognised(line: str) -> None:
    assert WORLD.search(line)


def test_no_vague_module_names() -> None:
    vague = {"utils", "util", "helpers", "common", "misc", "manager", "base"}
    assert not [within(path) for path in PACKAGE.rglob("*.py") if path.stem in vague]


def test_every_folder_of_the_package_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [within(folder) for folder in folders if not (folder / "__init__.py").exists()]


def test_the_map_names_every_module() -> None:
    """ARCHITECTURE.md lists each room's modules, and none that is gone."""
    rooms = re.split(r"(?m)^#{2,3} ", (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8"))
    listed = {
        f"{room.partition(chr(10))[0]}/{module}.py"
        for room in rooms
        for line in re.findall(r"(?m)^- ((?:`\w+`(?:, )?)+):", room)
        for module in re.findall(r"`(\w+)`", line)
    }
    modules = {
        within(path)
        for path in PACKAGE.rglob("*.py")
        if path.parent != PACKAGE and path.name != "__init__.py"
    }
    assert listed == modules


def test_no_machine_paths_in_the_project() -> None:
    """A path of someone's machine in a shipped file means nothing to anyone else."""
    machine = re.compile(rb"(?<![\w./:-])/(?:home|Users|work|root)/\w")
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path != Path(__file__)
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if machine.search(line)
    ]
    assert not named


def test_names_of_test_files_are_unique() -> None:
    stems = [path.stem for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(stems) == len(set(stems))
