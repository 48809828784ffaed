"""Which form of a convolution's gradients is used for which shape, as a table."""

import dataclasses
import functools
import math

from keras_resnet.memory import instructions

ENDLESS = math.inf
SIXTEEN_BITS = ("bfloat16", "float16")


@dataclasses.dataclass(frozen=True)
class Row:
    """A form and the convolutions that it is for. The first row that fits decides.

    Attributes:
        form: name of a function in `gradients`.
        windows: the sizes that a window may have along its longest axis, in pixels.
        strides: step in pixels along that axis; None for any.
        sides: the smallest and largest output sizes, in pixels: the square root of the number of output pixels.
        channels: the smallest and largest number of input channels.
    """

    form: str
    windows: tuple[int, ...] = ()
    strides: int | None = None
    sides: tuple[float, float] = (0, ENDLESS)
    channels: tuple[float, float] = (0, ENDLESS)

    def fits(self, window: int, strides: int, side: float, channels: int) -> bool:
        """Returns whether the row is for a convolution of these sizes."""
        return (
            (not self.windows or window in self.windows)
            and self.strides in (None, strides)
            and self.sides[0] <= side <= self.sides[1]
            and self.channels[0] <= channels <= self.channels[1]
        )


# Measured by `python -m benchmarks.kernel_forms`, on two cores of an AMD EPYC with AVX-512 (2026-11-23), over the
# shapes of ResNet-18 and -50 at 8 to 224 px. "onednn" is TensorFlow with oneDNN, its default on CPUs with AVX-512 VNNI
# or newer; "onednn_16" the same in bfloat16 (2026-11-25, `--dtype bfloat16`); "onednn_avx2" the same limited to AVX2
# (2026-11-25, `ONEDNN_MAX_CPU_ISA=AVX2`); "eigen" is TensorFlow without, its default on older ones,
# whose gradients of the input are far slower than its forward pass.
INPUT_FORMS: dict[str, tuple[Row, ...]] = {
    "onednn": (
        Row("matmul", windows=(1,), strides=1, sides=(0, 1)),
        Row("matmul", windows=(1,), strides=1, channels=(2048, ENDLESS)),
        Row("scatter", windows=(1,), strides=2, sides=(0, 8)),
        Row("phases", windows=(2, 3), strides=2, sides=(0, 8), channels=(128, ENDLESS)),
        Row("stock"),
    ),
    "onednn_avx2": (
        Row("matmul", windows=(1,), strides=1, sides=(0, 1)),
        Row("matmul", windows=(1,), strides=1, channels=(2048, ENDLESS)),
        Row("scatter", windows=(1,), strides=2, sides=(0, 8)),
        Row("phases", windows=(2, 3), strides=2, sides=(0, 8), channels=(128, ENDLESS)),
        Row("phases", windows=(3,), strides=2, sides=(28, ENDLESS), channels=(64, ENDLESS)),
        Row("stock"),
    ),
    "onednn_16": (
        Row("matmul", windows=(1,), strides=1, sides=(0, 7)),
        Row("scatter", windows=(1,), strides=2, sides=(0, 8)),
        Row("stock"),
    ),
    "eigen": (
        Row("matmul", windows=(1,), strides=1),
        Row("scatter", windows=(1,), strides=2, channels=(128, ENDLESS)),
        Row("flip", strides=1),
        Row("phases", windows=(2, 3, 5, 7), strides=2, channels=(65, ENDLESS)),
        Row("stock"),
    ),
    "gpu": (Row("stock"),),
}
FILTER_FORMS: dict[str, tuple[Row, ...]] = {
    "onednn": (
        Row("matmul", windows=(1,)),  # "stock" with a step would write outside its memory
        Row("forward", windows=(2, 3), strides=1, sides=(0, 1), channels=(128, ENDLESS)),
        Row("forward", windows=(3,), strides=1, sides=(4, 7), channels=(128, ENDLESS)),
        Row("explicit", windows=(2, 3), strides=2, sides=(0, 4)),
        Row("explicit", windows=(3,), strides=2, channels=(128, ENDLESS)),
        Row("stock"),
    ),
    "onednn_avx2": (
        Row("stock", windows=(1,), strides=1, sides=(9, 28), channels=(128, ENDLESS)),
        Row("matmul", windows=(1,)),
        Row("forward", windows=(2, 3), strides=1, sides=(0, 7), channels=(128, ENDLESS)),
        Row("forward", windows=(3,), strides=1, sides=(8, 14), channels=(256, ENDLESS)),
        Row("explicit", windows=(2, 3), strides=2, sides=(0, 4)),
        Row("explicit", windows=(3,), strides=2, channels=(64, ENDLESS)),
        Row("stock"),
    ),
    # Never "explicit": oneDNN does not take it in 16 bits, and Eigen needs 10 to 30 times as long.
    "onednn_16": (
        Row("matmul", windows=(1,), strides=1, sides=(0, 14)),
        Row("matmul", windows=(1,), strides=2),
        Row("forward", windows=(2, 3), strides=1, sides=(0, 4), channels=(128, ENDLESS)),
        Row("taps", windows=(3,), strides=1, sides=(5, 14), channels=(256, ENDLESS)),
        Row("taps", windows=(2, 3), strides=2, sides=(0, 4), channels=(128, ENDLESS)),
        Row("stock"),
    ),
    "eigen": (
        Row("matmul", windows=(1,), strides=1),
        Row("taps", windows=(2, 3), sides=(0, 1), channels=(128, ENDLESS)),
        Row("forward", windows=(2, 3), strides=1, sides=(0, 32)),
        Row("explicit"),
    ),
    "gpu": (Row("stock"),),
}


@functools.cache
def engine() -> str:
    """Returns the engine of convolutions in this process: "onednn", "onednn_avx2", "eigen" or "gpu"."""
    import tensorflow as tf
    from tensorflow.python.util import _pywrap_util_port  # no public name tells whether oneDNN is on

    if tf.config.list_physical_devices("GPU"):
        return "gpu"
    if not _pywrap_util_port.IsMklEnabled():
        return "eigen"
    flags = instructions()
    return "onednn_avx2" if flags and "avx512f" not in flags else "onednn"


def choose_form(
    table: dict[str, tuple[Row, ...]],
    window: tuple[int, ...],
    strides: tuple[int, ...],
    side: float,
    channels: int,
    dtype: str = "float32",
) -> str:
    """Returns the name of the form that `table` has for a convolution."""
    name = engine()
    if name.startswith("onednn") and dtype in SIXTEEN_BITS:
        name = "onednn_16"
    rows = table[name]
    return next(row.form for row in rows if row.fits(max(window), max(strides), side, channels))
