"""Names, descriptions and answers to mistakes need no torch; what the command says without it is what the code has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from twinmodes.cli import names
from twinmodes.cli.figure import ENTRIES
from twinmodes.compare import SIDES
from twinmodes.empirical.device import DTYPES
from twinmodes.figures import FIGURES
from twinmodes.figures.style import FORMATS

LIGHT = {
    "list": (["list"], 0),
    "describe": (["describe", "--preset", "notebook"], 0),
    "figure": (["figure", "entropy"], 2),
    "file": (["figure", "risk", "--out", "risk.doc"], 2),
    "source": (["figure", "risk", "--from", "nowhere.nc"], 2),
    "idle": (["figure", "risk", "--plane", "u,z1"], 2),
    "problem": (["figure", "gap", "--dim", "0"], 2),
    "sides": (["compare", "--sides", "guess"], 2),
    "device": (["compare", "--device", "abacus"], 2),
    "dtype": (["compare", "--dtype", "float16"], 2),
    "number": (["compare", "--kappa", "-1"], 2),
}


@pytest.mark.parametrize("case", LIGHT)
def test_without_torch(case, tmp_path):
    arguments, status = LIGHT[case]
    code = (
        "import sys\nfrom twinmodes.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as stop:\n"
        "    loaded = [name for name in ('torch', 'matplotlib', 'numba') if name in sys.modules]\n"
        "    assert not loaded, loaded\n    sys.exit(stop.code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == status, done.stderr


def test_names_kept_for_the_command_are_those_of_the_code():
    assert tuple(SIDES) == names.SIDES
    assert tuple(DTYPES) == names.DTYPES
    assert tuple(FORMATS) == names.ENDINGS
    assert set(ENTRIES) == set(FIGURES)
