"""Picture files whose headers were read: as examples, and in the form that fits in memory."""

import math
import os
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from keras_resnet.data.examples.encoded import EncodedExamples, common_shape
from keras_resnet.data.examples.plan import Examples
from keras_resnet.data.examples.splits import Groups
from keras_resnet.data.images.decoding import read_image
from keras_resnet.data.images.headers import Header, apply_bad_image_policy
from keras_resnet.data.options import LoadOptions
from keras_resnet.data.sources.listing import names_below
from keras_resnet.preprocessing.record import NARROW

# Files of 16 bits that are looked at.
SAMPLE = 16
LARGE_MEGAPIXELS = 2.0  # in docs/performance.md a training reads 12 of them 27 times faster once they are small


def pictures(
    root: pathlib.Path, found: Sequence[tuple[str, Header]], labels: np.ndarray, options: LoadOptions
) -> EncodedExamples:
    """Returns picture files as examples."""
    orientations = np.array([header.orientation if options.apply_exif else 1 for _, header in found], "int32")
    shapes = [
        (header.width, header.height) if orientation >= 5 else (header.height, header.width)
        for (_, header), orientation in zip(found, orientations, strict=True)
    ]
    names = names_below(root, (path for path, _ in found))
    # A signature begins with the size of the file.
    sizes = (header.signature.partition(" ")[0] for _, header in found)
    identities = [f"{name} {size}" for name, size in zip(names, sizes, strict=True)]
    contents = np.empty(len(found), object)
    contents[:] = [os.fsencode(path) for path, _ in found]
    return EncodedExamples(
        contents,
        labels,
        orientations,
        common_shape(shapes),
        np.array(identities, object),
        signatures=np.array([header.signature for _, header in found], object),
        are_files=True,
        is_deep=any(header.bits == 16 for _, header in found),
        largest=max((height * width for height, width in shapes), default=0),
    )


def hold(
    splits: dict[str, EncodedExamples], options: LoadOptions, report: list[str], groups: Groups
) -> dict[str, Examples]:
    """Returns the splits decoded in memory where all images share one size and fit, or as they are."""
    shapes = {examples.image_shape for examples in splits.values()}
    shape = next(iter(shapes))
    total = sum(len(examples) for examples in splits.values())
    bytes_each = math.prod(size or 0 for size in shape) * (4 if splits["train"].is_deep else 1)
    if len(shapes) > 1 or None in shape or total * bytes_each > options.in_memory_limit:
        return dict(splits)
    result: dict[str, Examples] = {}
    for name, examples in splits.items():
        try:
            result[name] = examples.decode()
        except tf.errors.OpError as error:
            bad = examples.find_bad()
            if not bad:
                raise  # the fault has gone away: a file system that fails now and then is not a bad image
            try:
                apply_bad_image_policy(bad, len(examples), options, report)
            except ValueError as named:
                raise named from error
            names = {path for path, _ in bad}
            good = [index for index, path in enumerate(examples.contents) if os.fsdecode(path) not in names]
            result[name] = examples.take(np.array(good)).decode()
            subjects = groups.get(name)
            groups[name] = None if subjects is None else subjects[good]
    return result


def _narrow_range(paths: Sequence[str], options: LoadOptions) -> list[str]:
    """Returns a warning for files of 16 bits that use a small part of their range, as detectors of 10 or 12 bits do."""
    sample = [paths[place] for place in np.unique(np.linspace(0, len(paths) - 1, SAMPLE).astype(int))]
    brightest = 0.0
    for path in sample:
        try:
            brightest = max(brightest, float(np.quantile(read_image(path, max_pixels=options.max_pixels), 0.999)))
        except ValueError:  # damaged, which is reported when the data are read
            continue
    if not brightest or brightest > NARROW:
        return []
    return [
        f"warning: of {len(sample)} files of 16 bits 99.9 % of the values are below {brightest * 257:.0f} of 65535, "
        f"which is {brightest:.1f} of 255. A training that leaves data.normalization at its default takes 'dataset', "
        "which learns the range"
    ]


def report_kinds(found: Iterable[tuple[str, Header | str]], options: LoadOptions, report: list[str]) -> None:
    """Adds to a report what a user may not expect of these files."""
    headers = {path: header for path, header in found if isinstance(header, Header)}
    good = list(headers.values())
    deep = [path for path, header in headers.items() if header.bits == 16]
    if deep:
        report.append(f"{len(deep)} files of 16 bits per channel keep them: 65535 is 255, and between are fractions")
        if len(deep) < len(headers):
            report.append(
                f"warning: {len(headers) - len(deep)} files have 8 bits per channel, and {len(deep)} have 16. White is "
                "255 in the former and 65535 in the latter: where a detector of 12 bits made these, they are 16 times "
                "darker, and how bright a file is tells its kind. Bring all to one range"
            )
        report += _narrow_range(deep, options)
    megapixels = float(np.median([header.height * header.width for header in good])) / 1e6 if good else 0.0
    if megapixels > LARGE_MEGAPIXELS:
        report.append(
            f"the pictures have {megapixels:.1f} megapixels (median). "
            "keras-resnet prepare makes them small once; data.decode='scaled' decodes JPEG files at a fraction"
        )
    animated = sum(header.is_animated for header in good)
    if animated:
        report.append(f"{animated} animated files: their first frame is read")
    turned = sum(header.orientation != 1 for header in good)
    if turned:
        done = "are turned upright by it" if options.apply_exif else "are read as stored (apply_exif=False)"
        report.append(f"{turned} photographs have an EXIF orientation and {done}")
