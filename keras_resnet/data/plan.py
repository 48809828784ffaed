"""What a training pipeline is asked for, checked once."""

import dataclasses
from typing import Any

from keras_resnet.arguments import check_int, choose

CROPS = {None: None, "random": "random", "center": "center", "none": "none"}


@dataclasses.dataclass(frozen=True)
class TrainingPlan:
    """The arguments of `Dataset.training_batches`, after their checks.

    Args:
        batch_size: examples a batch.
        seed: of the run, in [0, 2**31).
        start_step: the first global step.
        image_size: `(height, width)` in pixels, or None to keep the size.
        crop: "random", "center" or "none".
        antialias_above: factor of shrinking above which a resize filters first.
    """

    batch_size: int
    seed: int
    start_step: int
    image_size: tuple[int, int] | None
    crop: str
    antialias_above: float = 1.0

    def steps_per_epoch(self, size: int) -> int:
        """Returns the number of full batches in `size` examples."""
        return size // self.batch_size


def check_image_size(image_size: Any, image_shape: tuple[int | None, ...]) -> tuple[int, int] | None:
    """Returns `(height, width)` for an int, a pair or None.

    Raises:
        TypeError, ValueError: not an int >= 1 or a pair of them; given for signals or volumes; None although the
            images differ in size.
    """
    if image_size is None:
        if None in image_shape:
            raise ValueError(
                "image_size=None was given, and the images of this dataset differ in size. "
                "Allowed is an int or (height, width) in pixels. Pass one, for instance image_size=224."
            )
        return None
    if len(image_shape) != 3:
        raise ValueError(
            f"image_size={image_size!r} was given for examples of shape {image_shape}. "
            "Only images (height, width, channels) can be resized. Leave image_size out."
        )
    if isinstance(image_size, (tuple, list)):
        if len(image_size) != 2:
            raise ValueError(
                f"image_size={image_size!r} has {len(image_size)} values. Allowed is an int or (height, width). "
                "Pass two values."
            )
        height, width = image_size
    else:
        height = width = image_size
    return check_int("image_size", height), check_int("image_size", width)


def check_crop(crop: Any, image_size: tuple[int, int] | None, image_shape: tuple[int | None, ...], default: str) -> str:
    """Returns the kind of crop; None stands for `default` where images differ in size and "none" elsewhere.

    Raises:
        ValueError: an unknown kind, or a crop without an image size to resize it to.
    """
    choose("crop", crop, CROPS)
    if crop is None:
        return default if None in image_shape else "none"
    if crop != "none" and image_size is None:
        raise ValueError(
            f"crop={crop!r} was given without image_size. A crop is resized to image_size. "
            "Pass image_size, or crop='none'."
        )
    return str(crop)
