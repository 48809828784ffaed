"""Maps laid over what they explain, as PNG: pictures, signals as colored lines, volumes as slices."""

import os
import pathlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_resnet import files
from keras_resnet.errors import BadValue
from keras_resnet.explain.methods import explain
from keras_resnet.figures import draw_leads, readable
from keras_resnet.preprocessing.record import BYTES, NARROW

SMALLEST_SIDE_PX = 224  # of a picture that is written: small inputs are enlarged to be seen
OPACITY = 0.5


def overlay(image: Any, heat: np.ndarray, path: str | os.PathLike, title: str = "") -> None:
    """Writes a PNG of an example with its map over it.

    Args:
        image: `(*space, channels)` in [0, 255] for pictures; any range for signals and volumes.
        heat: `(*space,)` in [0, 1], from `explain`.
        path: of the file; one that this package wrote is replaced.
        title: over the picture.

    Raises:
        ValueError: the two differ in size, or `path` is a file of another origin.
    """
    image = np.asarray(image, dtype="float32")
    if image.shape[:-1] != heat.shape:
        raise BadValue(
            f"image has the shape {image.shape} and heat {heat.shape}. They must agree but for the channels. Pass the "
            "map of this example."
        )
    files.check_replaceable(path, "path")
    files.write_atomically(path, lambda where: draw_overlay(image, heat, where, title))


def draw_overlay(image: np.ndarray, heat: np.ndarray, file: Any, title: str = "") -> None:
    """Writes what `overlay` does to a path or to an open binary file, unchecked."""
    import matplotlib

    (shown,), fonts = readable([title])
    draw = {1: _signal, 2: _picture, 3: _volume}[heat.ndim]
    with matplotlib.rc_context(fonts):
        draw(image, heat, file, shown if shown == title else "")


def _figure(width: float, height: float, title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    if title:
        figure.suptitle(title, parse_math=False)
    return figure


def _grey(image: np.ndarray) -> np.ndarray:
    return image if image.shape[-1] == 3 else np.repeat(image.mean(axis=-1, keepdims=True), 3, axis=-1)


def as_rgb(image: np.ndarray, record: Any) -> np.ndarray:
    """Returns a picture as it is shown, in [0, 255] and RGB, from what a network with this record takes.

    Pixels in units that are not known are stretched from the smallest to the largest of the picture; those of a data
    set that uses little of its range, as detectors of 12 bits do, from three deviations below its mean to three above.
    """
    if record.channel_order == "any" and image.ndim != 3:
        return image
    if record.pixel_range is None:
        low, high = float(image.min()), float(image.max())
        scaled = (image - low) * (255 / max(high - low, 1e-12))
    else:
        low, high = _window(record)
        scaled = (record.to_bytes(image) - low) * (255 / (high - low))
    return scaled[..., ::-1] if record.channel_order == "bgr" else scaled


def _window(record: Any) -> tuple[float, float]:
    """Returns the values in [0, 255] that are shown as black and as white."""
    layer = record.normalization
    if getattr(layer, "scheme", None) == "dataset" and record.pixel_range == BYTES:
        mean, std = np.array(layer.mean), np.array(layer.std)
        low, high = max(float((mean - 3 * std).min()), 0.0), float((mean + 3 * std).max())
        if low < high < NARROW:
            return low, high
    return BYTES


def blend(image: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Returns a picture with its map over it, uint8 `(height, width, 3)`."""
    from matplotlib import colormaps

    # Where nothing speaks for the class the picture stays as it is.
    share = OPACITY * np.clip(heat * 2, 0, 1)[..., None]
    colors = colormaps["inferno"](heat)[..., :3]
    mixed = np.clip(_grey(image) / 255, 0, 1) * (1 - share) + colors * share
    return np.round(mixed * 255).astype("uint8")


def _picture(image: np.ndarray, heat: np.ndarray, path: Any, title: str) -> None:
    height, width = heat.shape
    scale = max(1.0, SMALLEST_SIDE_PX / min(height, width)) / 100
    figure = _figure(2 * width * scale, height * scale + 0.5, title)
    left, right = figure.subplots(1, 2)
    left.imshow(np.clip(_grey(image) / 255, 0, 1))
    left.set_axis_off()
    right.imshow(blend(image, heat))
    right.set_axis_off()
    figure.savefig(path, format="png", metadata=files.PNG_METADATA)


def _signal(image: np.ndarray, heat: np.ndarray, path: Any, title: str) -> None:
    channels = image.shape[-1]
    figure = _figure(9, 1.2 + 0.8 * channels, title)
    axes = figure.subplots()
    heights = draw_leads(axes, image)
    # Behind the lines, which stay dark: the map is one for all channels.
    bottom, top = axes.get_ylim()
    extent = (-0.5, len(heat) - 0.5, bottom, top)
    shade = axes.imshow(heat[None], extent=extent, aspect="auto", cmap="Oranges", vmin=0, vmax=1, alpha=0.6, zorder=0)
    axes.set_yticks(heights, [f"channel {channel}" for channel in range(channels)])
    axes.set_xlabel("sample")
    figure.colorbar(shade, ax=axes, label="speaks for the class")
    figure.savefig(path, format="png", metadata=files.PNG_METADATA)


def _volume(image: np.ndarray, heat: np.ndarray, path: Any, title: str) -> None:
    low, high = float(image.min()), float(image.max())
    scaled = _grey((image - low) / max(high - low, 1e-12) * 255)
    figure = _figure(10, 4, title)
    peak = np.unravel_index(int(heat.argmax()), heat.shape)
    for axis, axes in enumerate(figure.subplots(1, 3)):
        axes.imshow(blend(np.take(scaled, peak[axis], axis), np.take(heat, peak[axis], axis)))
        axes.set_axis_off()
        axes.set_title(f"{('depth', 'height', 'width')[axis]} {peak[axis]}")
    figure.savefig(path, format="png", metadata=files.PNG_METADATA)


def explain_files(
    run_or_model: Any,
    image_paths: Iterable[str | os.PathLike],
    out: str | os.PathLike,
    method: str = "grad-cam",
    task: str | None = None,
) -> list[pathlib.Path]:
    """Reads files as `predict` does, and writes an overlay of the most probable class for each example.

    Args:
        run_or_model: a run folder, a `.keras` file, a `Run` or a `keras.Model`.
        image_paths: image files, `.npy` and `.npz`; of a folder every such file in it.
        out: the folder of the PNG files, made where it is missing: `NAME.png` for each file, `NAME-INDEX.png` for the
            examples of an array of several. `NAME-2.png` and so on
            where names repeat, or where a file of another origin has the name; such a file is never replaced.
        method: as for `explain`.
        task: "classification" or "regression", for a model that carries no record of it.

    Returns:
        The paths of the PNG files.

    Raises:
        TypeError, ValueError: a path holds no model, or a file is not an image.
    """
    # Reading files takes TensorFlow; maps of arrays do not.
    from keras_resnet.evaluation import open_predictor
    from keras_resnet.evaluation.scoring import example_files, read_batches

    predictor = open_predictor(run_or_model, task)
    paths = [pathlib.Path(path) for path in example_files(image_paths)]
    images, stems = [], []
    for path in paths:
        image_list = [image for _, batch in read_batches(path, predictor) for image in batch]
        images += image_list
        stems += [path.stem] if len(image_list) == 1 else [f"{path.stem}-{index}" for index in range(len(image_list))]
    folder = files.make_writable(out)
    names, written = predictor.record.class_names, []
    sources = {path.resolve() for path in paths}
    together = len({image.shape for image in images}) == 1
    for stem, image, (heat, index) in zip(
        stems, images, _explain(predictor.model, images, method, together), strict=True
    ):
        target = folder / f"{stem}.png"
        number = 1
        while target in written or target.resolve() in sources or not files.is_replaceable(target):
            number += 1
            target = folder / f"{stem}-{number}.png"
        rgb = as_rgb(image, predictor.record)
        (name,), _ = readable([names[index] if names else str(index)])
        overlay(rgb, heat, target, f"{name if not names or name == names[index] else f'class {index}'} ({method})")
        written.append(target)
    return written


def _explain(model: Any, images: list[np.ndarray], method: str, together: bool) -> list[tuple[np.ndarray, int]]:
    """Returns map and class of each image; those of one size go through the network together."""
    batches = [np.stack(images)] if together else [image[None] for image in images]
    heat_maps = [explain(model, batch, method=method) for batch in batches]
    return [(heat, int(index)) for one in heat_maps for heat, index in zip(one.maps, one.classes, strict=True)]
