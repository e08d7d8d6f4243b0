"""The house: arrows run one way (flows -> Prefect tasks -> steps -> config), and steps are plain Python."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from tests.runs import ROOT

# The only room under tasks/ that knows Prefect.
ORCHESTRATION = "tasks.orchestration"


def modules(package: str) -> list[str]:
    """Every module of a package, by its dotted name."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


def source(module: str) -> Path:
    path = ROOT / Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(module: str) -> tuple[str, ...]:
    """What a module imports, at its top or later."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source(module).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


STEPS = [module for module in modules("tasks") if not module.startswith(ORCHESTRATION)]
# A subclass of the SDK's HTTP client, which nobody imports before a call is to be made.
ADAPTER = "tasks.asking.http"


def test_steps_load_neither_prefect_nor_the_sdk() -> None:
    light = [module for module in STEPS if module != ADAPTER]
    script = f"import importlib, sys\nfor name in {light}: importlib.import_module(name)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert set(light) <= loaded
    assert not loaded & {"prefect", "anthropic", "flows"}


def offences(of: list[str], *forbidden: str) -> dict[str, list[str]]:
    """What each module imports of the forbidden packages."""
    found = {
        module: [
            name for name in imports(module) if any(name == one or name.startswith(f"{one}.") for one in forbidden)
        ]
        for module in of
    }
    return {module: names for module, names in found.items() if names}


def test_arrows_run_one_way() -> None:
    assert offences(modules("config"), "tasks", "flows", "prefect", "tests") == {}
    assert offences(STEPS, ORCHESTRATION, "flows", "prefect", "tests") == {}
    assert offences(modules("tasks"), "flows", "tests") == {}
    assert offences(modules("flows"), "tests") == {}


def test_no_module_reaches_itself_by_imports() -> None:
    """Neither as it is loaded nor later, nor for a type."""
    every = {module for package in ("config", "tasks", "flows") for module in modules(package)}
    order = TopologicalSorter({module: {name for name in imports(module) if name in every} for module in every})
    order.prepare()


def test_nobody_imports_the_simulator() -> None:
    """It is a peer of the real API: the job knows only its address."""
    for module in [*modules("flows"), *modules("tasks")]:
        if not module.startswith("tasks.simulator") and module != "flows.cli.commands":
            assert not [name for name in imports(module) if name.startswith("tasks.simulator")], module


def test_modules_fit_on_a_few_screens() -> None:
    long = {
        module: len(source(module).read_text().splitlines())
        for package in ("config", "tasks", "flows", "tests")
        for module in modules(package)
    }
    assert {module: lines for module, lines in long.items() if lines > 300} == {}
