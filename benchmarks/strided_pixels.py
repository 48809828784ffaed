"""Whether TensorFlow's gradient of a 1x1 convolution with a step, by its kernel, stays inside its memory.

    python -m benchmarks.strided_pixels [--json FILE]

Each shape runs in its own process: a wrong write ends it at once, or later, or not at all. With TensorFlow 2.21
and oneDNN few channels, and batches of 1 or 3, end with "malloc(): unaligned tcache chunk" or a segmentation fault.
This package's layers take the form "matmul" there, which is tried beside it.
"""

import argparse
import json
import os
import subprocess
import sys

SHAPES = ((1, 16, 4, 8), (3, 16, 8, 16), (12, 56, 8, 16), (12, 56, 8, 15), (12, 56, 16, 32), (16, 56, 64, 128))


def compute(form: str, batch: int, size: int, channels: int, filters: int) -> None:
    """Computes the gradient thirty times."""
    import tensorflow as tf

    from keras_resnet.blocks.kernels import gradients

    inputs, kernel = tf.random.normal((batch, size, size, channels)), tf.random.normal((1, 1, channels, filters))
    upstream = tf.random.normal((batch, size // 2, size // 2, filters))
    geometry = gradients.Geometry((2, 2), ((0, 0), (0, 0)))
    compiled = tf.function(lambda x, u: gradients.FILTER_GRADIENTS[form](x, kernel, u, geometry))
    for _ in range(30):
        compiled(inputs, upstream)


def main() -> None:
    """Tries every shape, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=5, metavar="VALUE", help="a form and a shape, to be computed in this process")
    parser.add_argument("--quick", action="store_true", help="one shape alone")
    parser.add_argument("--json", metavar="FILE", help="write the outcomes to FILE")
    options = parser.parse_args()
    if options.one:
        compute(options.one[0], *map(int, options.one[1:]))
        return
    rows = []
    print("| batch | pixels | channels | filters | stock | matmul |\n| ---: | ---: | ---: | ---: | --- | --- |")
    for shape in SHAPES[:1] if options.quick else SHAPES:
        outcomes = {}
        for form in ("stock", "matmul"):
            command = [sys.executable, "-m", "benchmarks.strided_pixels", "--one", form, *map(str, shape)]
            done = subprocess.run(command, capture_output=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
            outcomes[form] = "well" if done.returncode == 0 else f"ended by signal {-done.returncode}"
        rows.append({"shape": shape, "outcomes": outcomes})
        print(f"| {' | '.join(map(str, shape))} | {outcomes['stock']} | {outcomes['matmul']} |", flush=True)
    if options.json:
        from benchmarks.contest import machine
        from keras_resnet import files

        files.write_text(options.json, json.dumps({**machine(), "outcomes": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
