"""Fonts for names in many scripts, their characters, and the width of a text in them."""

import logging
import unicodedata
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

_PACKAGES = ("manimgx_fonts", "noto_cjk_sans_otc")  # of Noto fonts; without them DejaVu Sans alone is there
_DPI = 200  # that widths are measured at: glyphs are placed on whole pixels


@cache
def families() -> tuple[str, ...]:
    """Return the names of the fonts in the order in which they are asked for a character: DejaVu Sans, then Noto's."""
    # Most have no bold face, and Matplotlib's warning would come for each of them.
    logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
    names = ["DejaVu Sans"]
    for file in _files():
        known = len(fontManager.ttflist)
        fontManager.addfont(file)
        names.append(fontManager.ttflist[known].name)  # a collection's faces have the same characters
    return tuple(dict.fromkeys(names))


def _files() -> list[Path]:
    """Return the font files of installed packages; no code of these packages runs."""
    specs = [spec for spec in map(find_spec, _PACKAGES) if spec is not None]
    folders = [Path(folder) for spec in specs for folder in spec.submodule_search_locations or []]
    return [file for folder in folders for file in sorted(folder.glob("*.tt[fc]"))]


@cache
def _characters() -> frozenset[int]:
    return frozenset(code for name in families() for code in get_font(findfont(name)).get_charmap())


def drawable(text: str) -> str:
    """Return `text` with `U+20000` for a character that no font has; invisible ones are left out."""
    return "".join(c if ord(c) in _characters() else _code_point(c) for c in text)


def _code_point(character: str) -> str:
    invisible = unicodedata.category(character) == "Cf" or "VARIATION SELECTOR" in unicodedata.name(character, "")
    return "" if invisible else f"U+{ord(character):04X}"


def text_width(text: str, size: float = 8, weight: str = "normal") -> float:
    """Return the inches that one line of `text` takes.

    Args:
        size: of the font, in points.
    """
    font = FontProperties(family=list(families()), size=size, weight=weight)
    width: float = _renderer().get_text_width_height_descent(text, font, ismath=False)[0]
    return width / _DPI


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, _DPI)
