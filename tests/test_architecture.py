"""Imports point one way; importing is light; nothing draws from a global generator; agents are silent."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "hare_gym": ROOT / "hare_gym",
    "hare_agents": ROOT / "agents/hare_agents",
    "hare_evaluation": ROOT / "evaluation/hare_evaluation",
    "hare_leaderboard": ROOT / "leaderboard/hare_leaderboard",
}
MAY_IMPORT = {
    "hare_gym": {"hare_gym"},
    "hare_agents": {"hare_agents", "hare_gym"},
    "hare_evaluation": {"hare_evaluation", "hare_agents", "hare_gym"},
    "hare_leaderboard": {"hare_leaderboard", "hare_evaluation"},
}
FILES = [(package, path) for package, folder in FOLDERS.items() for path in sorted(folder.rglob("*.py"))]


def imported(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            yield node.module


def breaches(package, source):
    found = {name for name in imported(ast.parse(source)) if name.partition(".")[0] in FOLDERS}
    return {name for name in found if name.partition(".")[0] not in MAY_IMPORT[package]}


@pytest.mark.parametrize(("package", "path"), FILES, ids=[f"{path.parent.name}/{path.name}" for _, path in FILES])
def test_imports_point_one_way(package, path):
    assert not breaches(package, path.read_text())


def test_the_arrows_test_sees_every_form_of_import():
    assert breaches("hare_gym", "def f():\n    import hare_agents.linucb") == {"hare_agents.linucb"}
    assert breaches("hare_agents", "from hare_evaluation import runner") == {"hare_evaluation"}
    assert breaches("hare_leaderboard", "from hare_gym.contract import Agent") == {"hare_gym.contract"}
    assert not breaches("hare_evaluation", "import hare_gym, hare_agents.linucb, numpy")


def modules_of(package):
    folder = FOLDERS[package]
    for path in sorted(folder.rglob("*.py")):
        yield path, ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")


@pytest.mark.parametrize("package", FOLDERS)
def test_there_is_no_import_cycle(package):
    """Not even between the modules of one package, or for the sake of types."""
    modules = {name: path for path, name in modules_of(package)}
    arrows = {}
    for name, path in modules.items():
        targets = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                targets |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Import):
                targets |= {alias.name for alias in node.names}
        # a package's __init__ stands above its modules
        arrows[name] = {target for target in targets & modules.keys() if target != package}
    while True:
        leaves = {name for name, targets in arrows.items() if not targets}
        if not leaves:
            break
        arrows = {name: targets - leaves for name, targets in arrows.items() if name not in leaves}
    assert not arrows


LIGHT = [
    ("hare_gym", ("torch", "sklearn", "pandas", "matplotlib", "scipy")),
    ("hare_gym.checks", ("torch", "sklearn", "pandas", "matplotlib", "scipy")),
    ("hare_agents.linucb, hare_agents.linucb_disjoint, hare_agents.thompson", ("torch", "sklearn", "pandas")),
    ("hare_evaluation.cli", ("torch", "sklearn", "pandas", "matplotlib", "scipy", "ray", "gymnasium")),
]


@pytest.mark.parametrize(("modules", "heavy"), LIGHT, ids=[modules for modules, _ in LIGHT])
def test_importing_is_light(modules, heavy):
    code = f"import {modules}, sys; print([name for name in {heavy} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


HARMLESS = {
    "default_rng",
    "get_state",
    "set_state",
    "get_bit_generator",
    "set_bit_generator",
    "getstate",
    "setstate",
}


def global_draws(source):
    """Uses of the functions of ``numpy.random`` and ``random`` (in lower case: classes are no draws)."""
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            found = re.fullmatch(r"(?:(?:np|numpy)\.)?random\.([a-z_]+)", name)
            if found and found[1] not in HARMLESS:
                yield name


@pytest.mark.parametrize(("package", "path"), FILES, ids=[f"{path.parent.name}/{path.name}" for _, path in FILES])
def test_nothing_draws_from_a_global_generator(package, path):
    # the checkers seed the global generators, to prove that nobody listens to them
    allowed = ["np.random.seed", "random.seed"] if path.name == "checks.py" else []
    assert sorted(global_draws(path.read_text())) == allowed


def test_the_generator_test_sees_draws():
    source = (
        "import numpy as np\nnp.random.rand(3)\nnp.random.seed(0)\nnp.random.Generator\nfrom random import shuffle"
    )
    assert sorted(global_draws(source)) == ["np.random.rand", "np.random.seed", "random.shuffle"]


AGENT_FILES = [path for package, path in FILES if package == "hare_agents"]


def noises(source):
    tree = ast.parse(source)
    yield from (name for name in imported(tree) if name.partition(".")[0] in ("logging", "rich", "tqdm", "warnings"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield "print"


@pytest.mark.parametrize("path", AGENT_FILES, ids=[path.name for path in AGENT_FILES])
def test_agents_neither_print_nor_log(path):
    assert not list(noises(path.read_text()))


def test_the_noise_test_hears():
    assert list(noises("import logging\nprint('x')")) == ["logging", "print"]


@pytest.mark.parametrize("package", FOLDERS)
def test_each_package_is_typed(package):
    assert (FOLDERS[package] / "py.typed").exists()
