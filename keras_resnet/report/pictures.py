"""Examples as pictures inside a page, with what the network sees in them."""

import base64
import io
import pathlib
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_resnet.evaluation.predictions import Mistake
from keras_resnet.explain import explain, overlay
from keras_resnet.explain.overlays import as_rgb, blend
from keras_resnet.report.page import escape
from keras_resnet.training import Run

SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 128, 256


def shown_mistakes(run: Run, mistakes: Sequence[Mistake]) -> str:
    """Returns a figure for each example that was got wrong, with the map of what was guessed.

    Args:
        run: whose model guessed.
        mistakes: of it, at least one.
    """
    guesses = [run.class_names.index(mistake.guess) for mistake in mistakes]
    found = explain(run.model, np.stack([mistake.image for mistake in mistakes]), classes=guesses)
    return "".join(_show(run, mistake, heat) for mistake, heat in zip(mistakes, found.maps, strict=True))


def _show(run: Run, mistake: Mistake, heat: np.ndarray) -> str:
    told = (
        f"{escape(mistake.name)}: {escape(mistake.guess)} with {mistake.confidence:.1%}; labeled "
        f"{escape(mistake.label)} ({mistake.probability:.1%})"
    )
    alternative = f"{mistake.name}, labeled {mistake.label}, taken for {mistake.guess}"
    if heat.ndim == 2:
        image = as_rgb(mistake.image, run.record)
        plain = blend(image, np.zeros_like(heat))
        drawn = embed_picture(plain, alternative) + embed_picture(blend(image, heat), f"map of {mistake.guess}")
        drawn = f'<div class="two">{drawn}</div>'
    else:
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "map.png"
            overlay(mistake.image, heat, path)
            drawn = _embed(path.read_bytes(), alternative)
    return f"<figure>{drawn}<figcaption>{told}</figcaption></figure>"


def embed_picture(pixels: np.ndarray, alternative: str) -> str:
    """Returns an `img` of uint8 pixels: small ones enlarged by a whole factor, large ones made smaller."""
    from PIL import Image

    picture: Any = Image.fromarray(pixels)
    side = max(picture.size)
    if side > LARGEST_SIDE_PX:
        picture.thumbnail((LARGEST_SIDE_PX, LARGEST_SIDE_PX))
    elif side < SMALLEST_SIDE_PX:
        factor = -(-SMALLEST_SIDE_PX // side)
        picture = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
    return _embed(png_of(picture), alternative)


def png_of(picture: Any) -> bytes:
    """Returns a picture of Pillow as a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def url_of(png: bytes) -> str:
    """Returns a PNG as a URL that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _embed(png: bytes, alternative: str) -> str:
    return f'<img src="{url_of(png)}" alt="{escape(alternative)}">'
