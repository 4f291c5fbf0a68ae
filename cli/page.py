"""A self-contained page: HTML from tables and figures, with everything that comes from data escaped.

The page needs no network and no script, and forbids itself both. Builders take text and return `Markup`, which is the
only thing that `page` writes as it is.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

from ..figures.style import style

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0; --ground: #ffffff; --band: #f6f8fa;
  --good: #1a7f37; --bad: #c62828; --mild: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb8; --line: #3d444d; --ground: #12161b;
  --band: #1c2128; --good: #57c46f; --bad: #ff8a80; --mild: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 62rem; color: var(--ink); background: var(--ground);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", Arial, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .25rem;
  border-bottom: 1px solid var(--line); } h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; } .note { color: var(--soft); font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: .5rem 0; font-size: .88rem; }
th, td { padding: .28rem .7rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top;
  overflow-wrap: break-word; min-width: 3rem; max-width: 34rem; }
thead th { background: var(--band); font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.agrees, .done { color: var(--good); font-weight: 600; } .disagrees, .failed, .diverged { color: var(--bad);
  font-weight: 600; } .cannot-say, .missing { color: var(--mild); font-weight: 600; }
figure { margin: .8rem 0 1.2rem; } figure img { display: block; max-width: 100%; height: auto; background: #fff;
  border: 1px solid var(--line); border-radius: 6px; padding: .5rem; } figcaption { color: var(--soft);
  font-size: .9rem; margin-top: .3rem; max-width: 46rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--band); padding: .6rem .8rem; border-radius: 6px;
  font-size: .82rem; margin: .4rem 0; }
@media print { :root { --ink: #000; --soft: #444; --line: #bbb; --ground: #fff; --band: #f2f2f2; --good: #116329;
  --bad: #9b1c1c; --mild: #6b4b00; }
  body { padding: 0; max-width: none; font-size: 10pt; } h2, h3 { break-after: avoid; }
  figure, tr { break-inside: avoid; } .scroll { overflow: visible; } }
"""
WORDS = ("agrees", "disagrees", "cannot say", "done", "failed", "diverged", "missing")


class Markup(str):
    """HTML that a builder of this file made."""


def text(value: Any) -> Markup:
    """Return a value as text that no browser takes for anything else."""
    return Markup(html.escape(str(value), quote=True))


def paragraph(value: Any, *, note: bool = False) -> Markup:
    """Return a paragraph; a ``note`` is smaller."""
    return Markup(f'<p class="note">{text(value)}</p>' if note else f"<p>{text(value)}</p>")


def code(value: Any) -> Markup:
    """Return preformatted text."""
    return Markup(f"<pre>{text(value)}</pre>")


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Return a table; numbers stand right, verdicts and statuses have their colour.

    Parameters
    ----------
    head : sequence of str
        Names of the columns.
    rows : iterable of sequences
        Numbers are written with three digits, whole ones as they are.
    """
    numeric: list[bool] = [False] * len(head)
    lines = []
    for row in rows:
        cells = []
        for i, value in enumerate(row):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            numeric[i] |= number
            word = str(value) if str(value) in WORDS else ""
            kind = "number" if number else word.replace(" ", "-")
            cells.append(f'<td class="{kind}">{text(shown(value))}</td>' if kind else f"<td>{text(shown(value))}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    names = [
        f'<th scope="col" class="number">{text(name)}</th>' if right else f'<th scope="col">{text(name)}</th>'
        for name, right in zip(head, numeric, strict=True)
    ]
    if not lines:
        return Markup('<p class="note">none</p>')
    head_row, body = "".join(names), "\n".join(lines)
    return Markup(
        f'<div class="scroll"><table><thead><tr>{head_row}</tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def shown(value: Any) -> str:
    """Return a number with three digits, or anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def picture(figure: Any, caption: str) -> Markup:
    """Return a matplotlib Figure as an image within the page."""
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=160)
    width = round(figure.get_size_inches()[0] * 110)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    image = f'<img width="{width}" alt="{text(caption)}" src="data:image/png;base64,{data}">'
    return Markup(f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>")


def section(title: str, *parts: Markup, level: int = 2) -> Markup:
    """Return parts under a heading."""
    return Markup(f"<section><h{level}>{text(title)}</h{level}>\n" + "\n".join(_checked(parts)) + "\n</section>")


def page(title: str, *parts: Markup) -> str:
    """Return the whole document.

    Raises
    ------
    TypeError
        If a part is not made by a builder, so that it might hold unescaped text.
    """
    head = (
        '<meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style>"
    )
    body = "\n".join([f"<h1>{text(title)}</h1>", *_checked(parts)])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _checked(parts: Sequence[Any]) -> Sequence[Markup]:
    for part in parts:
        if not isinstance(part, Markup):
            raise TypeError(f"a page is made of Markup, got {type(part).__name__}; use a builder such as paragraph")
    return parts
