"""The law of the house: imports run downward only, every folder is shipped, and the wheel is whole."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("problem", "theory", "empirical", "compare", "figures", "cli")
PACKAGES = (*FOLDERS[:4], "compare/grids", "compare/published", "compare/sweeps", *FOLDERS[4:])
MAY_IMPORT = {
    "problem": set(),
    "theory": {"problem"},
    "empirical": {"problem"},
    "compare": {"problem", "theory", "empirical"},
    "figures": {"problem", "theory", "compare"},
    "cli": set(FOLDERS),
}
LIBRARIES = {
    "problem": {"numpy", "xarray", "sklearn"},
    "theory": {"numpy", "xarray", "scipy", "numba", "sympy"},
    "empirical": {"numpy", "xarray", "torch", "rich"},
    "compare": {"numpy", "xarray", "scipy", "threadpoolctl", "zarr", "icechunk", "dask", "distributed"},
    "figures": {"numpy", "xarray", "matplotlib"},
    "cli": {"numpy", "xarray", "torch", "typer", "rich"},
}


def imports(path):
    """Yield (folder of ours or None, library or None) for every import of a file, also those inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield None, alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield None, (node.module or "").split(".")[0]
                continue
            above = len(path.relative_to(ROOT).parts)  # as many levels up stands the namespace
            assert node.level <= above, f"{path}: relative import from {node.level} levels up"
            if node.level == above:
                names = [node.module.split(".")[0]] if node.module else [alias.name for alias in node.names]
                for name in names:
                    yield name, None


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_run_downward_only(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for ours, library in imports(path):
            if ours is not None:
                assert ours in MAY_IMPORT[folder], f"{path.name} imports {ours}"
            elif library not in sys.stdlib_module_names:
                assert library in LIBRARIES[folder], f"{path.name} imports {library}"


def test_every_folder_is_a_typed_package_of_the_wheel():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert settings["tool"]["setuptools"]["packages"] == [f"twinmodes.{name.replace('/', '.')}" for name in PACKAGES]
    found = {path.parent.relative_to(ROOT).as_posix() for name in FOLDERS for path in (ROOT / name).rglob("*.py")}
    assert found == set(PACKAGES)
    assert not (ROOT / "__init__.py").exists()
    for folder in PACKAGES:
        assert (ROOT / folder / "py.typed").exists() and (ROOT / folder / "__init__.py").read_text().startswith('"""')


def test_theory_runs_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from twinmodes.problem import Descent, LinearTeacher, RankOne\n"
        "from twinmodes.theory import gradient_descent, gradient_flow\n"
        "s = LinearTeacher(dim=3, samples=9).sample(0); w = RankOne().weights(s)\n"
        "gradient_descent(s, w, Descent(steps=5)); gradient_flow(s, w, Descent(steps=5))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_has_a_docstring():
    import importlib

    for folder in FOLDERS[:-1]:
        module = importlib.import_module(f"twinmodes.{folder}")
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value):
                assert value.__doc__, f"{folder}.{name}"


def test_docstring_examples():
    import doctest
    import importlib

    tried = 0
    for folder in FOLDERS[:-2]:
        for path in sorted((ROOT / folder).rglob("[a-z]*.py")):
            inside = path.relative_to(ROOT).with_suffix("").parts
            module = importlib.import_module(".".join(("twinmodes", *inside)))
            result = doctest.testmod(module)
            assert result.failed == 0, path
            tried += result.attempted
    assert tried > 10


@pytest.mark.slow
def test_the_wheel_installs_elsewhere_and_imports(tmp_path):
    """Build the wheel and import every sub-package of it in an environment that cannot see this checkout."""
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "out", "build", "*.egg-info", "__pycache__", "oracle")
    )
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("twinmodes-*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
    # The dependencies come from the environment that runs the tests; the package itself from the wheel.
    site = next(Path(entry) for entry in sys.path if entry.endswith("site-packages"))
    names = [name.replace("/", ".") for name in PACKAGES]
    code = (
        f"import importlib, sys; sys.path.append({str(site)!r})\n"
        "import twinmodes\n"
        + "\n".join(f"m = importlib.import_module('twinmodes.{f}'); print(m.__file__)" for f in names)
        + "\nfrom importlib import resources\n"
        + "\n".join(f"assert resources.files('twinmodes.{f}').joinpath('py.typed').is_file()" for f in names)
    )
    done = subprocess.run([python, "-I", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert all(str(tmp_path) in line for line in done.stdout.splitlines()) and len(done.stdout.splitlines()) == len(
        names
    )
