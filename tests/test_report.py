"""The report: every word of the data escaped, complete without network or script, and whole in a real browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import matplotlib.image
import numpy as np
import pytest
import xarray as xr

from twinmodes.cli.main import main
from twinmodes.cli.page import Markup, page, paragraph, section, table
from twinmodes.compare import compare, save
from twinmodes.problem import Descent, LinearTeacher, RankOne

EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'&amp;"
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
FLAGS = {"flag_values": [0, 1, 2, 3], "flag_meanings": "missing done failed diverged"}
VERDICTS = {"flag_values": [0, 1, 2, 3], "flag_meanings": "not_judged agrees disagrees cannot_say"}


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.words, self.open = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def a_sweep():
    """Two fields, two seeds, three sides: one cell failed, one is missing, one disagrees; text that means mischief."""
    rng = np.random.default_rng(0)
    kappa, u, step = [1.0, 10.0, 100.0], [0.1, 1.0], np.array([0, 1, 3, 10, 30, 100])
    sides = ["flow", f"mine {EVIL}", "trained"]
    dims, shape = ("kappa", "u", "seed"), (3, 2, 2)
    risk = np.exp(-step / 30)[None, None, None, None] * np.ones((*shape, 3, 1)) + 0.01 * rng.random((*shape, 3, 6))
    gap = np.full((*shape, 3, 2), 1e-4)
    expected = np.full(gap.shape, 1e-4)
    verdict = np.ones(gap.shape, dtype=np.int8)
    gap[..., 2, :], verdict[..., 2, :] = np.nan, 0
    gap[2, 1, 1, 1, 0], verdict[2, 1, 1, 1, 0] = 0.7, 2
    status = np.ones(shape, dtype=np.int8)
    status[0, 0, 1], status[1, 1, 0] = 2, 0
    error = np.full(shape, "", dtype=object)
    error[0, 0, 1] = f"ValueError: {EVIL}"
    present = rng.integers(0, 2, (*shape, 3)).astype(float)
    return xr.Dataset(
        {
            "risk": ((*dims, "side", "step"), risk, {"units": "y^2", "long_name": "risk"}),
            "bump_present": ((*dims, "side"), present),
            "bump_ratio": ((*dims, "side"), np.where(present == 1, 1.5, np.nan)),
            "gap": ((*dims, "side", "quantity"), gap, {"long_name": "largest gap"}),
            "expected": ((*dims, "side", "quantity"), expected),
            "verdict": ((*dims, "side", "quantity"), verdict, VERDICTS),
            "status": (dims, status, FLAGS),
            "error": (dims, error),
        },
        coords={
            "kappa": ("kappa", kappa, {"long_name": "ratio"}), "u": u, "seed": [0, 1], "side": sides,
            "quantity": ["risk", "loss"], "step": step,
        },
        attrs={
            "grid": json.dumps({"teacher.dim": {"fixed": EVIL}, "teacher.kappa": {"values": kappa}}),
            "settings": EVIL, "versions": json.dumps({"twinmodes": "0.1.0"}),
        },
    )  # fmt: skip


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The page of the sweep above, its path and its text."""
    folder = tmp_path_factory.mktemp("report")
    ds = a_sweep()
    ds.to_netcdf(folder / "sweep.nc", engine="h5netcdf")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder / "sweep.nc"), "--out", str(folder / "page.html")])
    assert stop.value.code == 0
    return folder / "page.html", (folder / "page.html").read_text(encoding="utf-8")


def test_builders_escape_and_a_page_takes_nothing_else():
    made = read(page(EVIL, section(EVIL, paragraph(EVIL), table([EVIL], [[EVIL]]))))
    assert made.tags.count("script") == made.tags.count("img") == 0
    assert made.words.count(EVIL) == 6  # title, h1, h2, p, th, td
    with pytest.raises(TypeError, match="a builder"):
        page("title", "<p>raw</p>")
    assert table(["a"], []) == Markup('<p class="note">none</p>')


def test_numbers_stand_right_and_words_have_their_colour():
    made = table(["name", "n", "x", "verdict"], [["a", 12345, 0.000123456, "cannot say"]])
    assert '<td class="number">12345</td><td class="number">0.000123</td><td class="cannot-say">cannot say</td>' in made
    assert '<th scope="col">name</th><th scope="col" class="number">n</th>' in made


def test_nothing_of_the_data_becomes_markup_and_nothing_is_fetched(written):
    _, text = written
    made = read(text)
    assert "script" not in made.tags and not [name for _, name, _ in made.attributes if name.startswith("on")]
    sources = [value for _, name, value in made.attributes if name in ("src", "href", "action", "data")]
    assert sources and all(value.startswith("data:image/png;base64,") for value in sources)
    assert "url(" not in text and "@import" not in text and "http:" not in text.replace("http-equiv", "")
    policy = next(value for tag, name, value in made.attributes if tag == "meta" and "default-src" in value)
    assert "default-src 'none'" in policy and "script-src" not in policy
    assert html.escape(EVIL, quote=True) in text and EVIL not in text


def test_everything_stands_on_the_page(written):
    words = " | ".join(read(written[1]).words)
    for wanted in (
        "12 cells: 3 kappa × 2 u × 2 seeds", "10 done", "1 missing", "1 failed", "1, 10, 100", "0.1, 1", "teacher.dim",
        "kappa = 1, u = 0.1, seed = 1", "disagrees", "kappa = 100, u = 1, seed = 1", "95% interval",
        "Left out, since not done: 2", "Provenance", "page written", "Double descent", "numpy",
    ):  # fmt: skip
        assert wanted in words, wanted
    tables = re.findall(r"<tbody>(.*?)</tbody>", written[1], re.DOTALL)
    worst = next(body for body in tables if "kappa = 100, u = 1, seed = 1" in body)
    first = worst[: worst.index("</tr>")]
    assert "kappa = 100, u = 1, seed = 1" in first and "disagrees" in first and worst.count("disagrees") == 2
    # Maps of double descent and gap, curves, and four worst cells.
    assert read(written[1]).tags.count("img") == 7


def test_a_comparison_has_a_page_too(tmp_path, capsys):
    ds = compare(
        LinearTeacher(dim=4, samples=9), RankOne(hidden=3), Descent(steps=60, record=15), ("recursion", "flow"), count=2
    )
    save(ds, tmp_path / "compare.nc")
    with pytest.raises(SystemExit) as stop:
        main(["report", str(tmp_path / "compare.nc"), "--out", str(tmp_path / "a.html")])
    assert stop.value.code == 0 and "a.html" in capsys.readouterr().out
    words = " | ".join(read((tmp_path / "a.html").read_text(encoding="utf-8")).words)
    for wanted in ("2 replica(s), 60 updates", "verdict: agrees", "flow", "weight_norm", "expected", "method"):
        assert wanted in words, wanted


@pytest.mark.parametrize(
    ("source", "out", "message"),
    [
        ("nowhere", "a.html", "there is no file or folder nowhere"),
        ("page.txt", "a.html", "cannot be read"),
        ("other.nc", "a.html", "holds neither a sweep nor a comparison"),
        ("folder", "a.html", "there is no sweep at"),
        ("other.nc", "a.pdf", "must end in .html"),
    ],
)
def test_mistakes_are_answered(source, out, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "page.txt").write_text("no data")
    (tmp_path / "folder").mkdir()
    save(xr.Dataset({"error": ("time", [1.0])}), tmp_path / "other.nc")
    with pytest.raises(SystemExit) as stop:
        main(["report", source, "--out", out])
    assert stop.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / out).exists()


def browse(*arguments):
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")
def test_a_browser_shows_it_whole(written, tmp_path):
    """The parsed page has every table and image; drawn, it is neither blank nor wider than the window."""
    path, text = written
    shot = tmp_path / "shot.png"
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    dom = browse(profile, "--dump-dom", path.as_uri()).stdout
    seen = read(re.sub(r"<!DOCTYPE[^>]*>", "", dom))
    sent = read(text)
    for tag in ("table", "tr", "td", "img", "section", "figure"):
        assert seen.tags.count(tag) == sent.tags.count(tag), tag
    assert "<title>Sweep sweep.nc</title>" in dom and "script" not in seen.tags
    assert [word for word in seen.words if word.strip()] == [word for word in sent.words if word.strip()]
    browse(profile, "--hide-scrollbars", "--window-size=1000,3600", f"--screenshot={shot}", path.as_uri())
    pixels = matplotlib.image.imread(shot)[..., :3]
    assert pixels.shape[:2] == (3600, 1000)
    ground = pixels[5, 5]
    drawn = np.abs(pixels - ground).max(axis=-1) > 0.05
    assert 0.05 < drawn.mean() < 0.8
    assert not drawn[:, :10].any() and not drawn[:, -10:].any()
    # The heat maps' blues reach the screen: images were decoded, not replaced by their description.
    blue = (pixels[..., 2] - pixels[..., 0] > 0.3) & (pixels[..., 2] > 0.4)
    assert blue.mean() > 0.005
