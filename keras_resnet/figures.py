"""What figures share: fonts that have the characters of class names, and the drawing of signals."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

DEFAULT = "DejaVu Sans"  # comes with matplotlib, without Chinese, Japanese and Korean
INK = "#1b1f24"


def readable(texts: Sequence[str]) -> tuple[list[str], Any]:
    """Returns texts as figures can show them, and settings for `matplotlib.rc_context` with the fonts that they need.

    A text with a character that no font of this system has is replaced by its number: "#3".
    """
    families, missing = _families(frozenset("".join(texts)))
    labels = [text if not missing & set(text) else f"#{index}" for index, text in enumerate(texts)]
    return labels, {"font.family": list(families)}


@functools.lru_cache(maxsize=64)
def _families(characters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Returns the families that show as many characters as this system can, the default first, and what is left."""
    from matplotlib import font_manager

    families = [DEFAULT]
    missing = {character for character in characters if character.isprintable()}
    missing -= _characters(font_manager.findfont(DEFAULT))
    for entry in font_manager.fontManager.ttflist if missing else ():
        if entry.style != "normal" or entry.name in families:
            continue
        covered = missing & _characters(entry.fname)
        if covered:
            families.append(entry.name)
            missing -= covered
        if not missing:
            break
    return tuple(families), frozenset(missing)


@functools.lru_cache(maxsize=256)
def _characters(path: str) -> frozenset[str]:
    from matplotlib import font_manager

    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # a font that cannot be read shows nothing
        return frozenset()


def draw_leads(axes: Any, signal: np.ndarray) -> np.ndarray:
    """Draws the channels of a signal as dark lines one above the other, the first on top.

    Returns:
        The height of each channel's middle.
    """
    spread = float(np.ptp(signal, axis=0).max()) or 1.0
    heights = -1.1 * np.arange(signal.shape[1])
    middles = (signal.max(axis=0) + signal.min(axis=0)) / 2
    axes.plot((signal - middles) / spread + heights, color=INK, linewidth=0.7)
    axes.set_xlim(0, max(len(signal) - 1, 1))
    axes.set_ylim(heights[-1] - 0.6, 0.6)
    return heights
