"""Names, descriptions and answers to mistakes need no torch; what the command says without it is what the code has."""

from __future__ import annotations

import subprocess
import sys

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
    "published": (["figure", "kunin", "--dim", "3"], 2),
    "draws": (["figure", "kunin", "--draws", "1"], 2),
}


def test_without_torch(tmp_path):
    """All in one process: what one of them loaded would be seen after it."""
    code = (
        "import sys\nfrom twinmodes.cli.main import main\n"
        f"for name, (arguments, status) in {LIGHT}.items():\n"
        "    try:\n        main(arguments)\n    except SystemExit as stop:\n"
        "        assert stop.code == status, (name, stop.code)\n"
        "    loaded = [heavy for heavy in ('torch', 'matplotlib', 'numba') if heavy in sys.modules]\n"
        "    assert not loaded, (name, loaded)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("twinmodes: ") == sum(status == 2 for _, status in LIGHT.values())


def test_names_kept_for_the_command_are_those_of_the_code():
    assert tuple(SIDES) == names.SIDES
    assert tuple(DTYPES) == names.DTYPES
    assert tuple(FORMATS) == names.ENDINGS
    assert set(ENTRIES) == set(FIGURES)
