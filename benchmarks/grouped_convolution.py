"""Forward and backward pass of a grouped convolution: this package's layer against Keras's own operation.

    python -m benchmarks.grouped_convolution [--json FILE]

The shapes are those of ResNeXt-50 32x4d at 224 px, batch 8. Keras compiles a grouped convolution with XLA on
TensorFlow. Rounds alternate between the contestants; the figures are medians.
"""

import argparse
import json
import statistics
import time

# Side in pixels, channels, groups, step.
SHAPES = ((56, 128, 32, 1), (56, 256, 32, 2), (28, 256, 32, 1), (14, 512, 32, 1), (7, 1024, 32, 1))
BATCH_SIZE = 8


def contestants(channels: int, groups: int, strides: int) -> dict:
    """Returns name -> compiled function of images, which gives both gradients."""
    import tensorflow as tf

    from keras_resnet.blocks import Convolution, kernels

    layers = {}
    for name, on in (("keras_resnet", True), ("Keras", False)):
        kernels.use(on)
        layer = Convolution(channels, 3, strides=strides, groups=groups)

        @tf.function
        def step(images, layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(images)
                loss = tf.reduce_sum(layer(images, training=True) ** 2)
            return tape.gradient(loss, [images, layer.kernel.value])

        step(tf.zeros((BATCH_SIZE, 8, 8, channels)))
        layers[name] = (on, step)
    return layers


def main() -> None:
    """Times every shape, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one shape alone")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    import tensorflow as tf

    from keras_resnet.blocks import kernels

    rows = []
    print("| side | channels | groups | step | keras_resnet, ms | Keras, ms | ratio |\n|" + " ---: |" * 7)
    for side, channels, groups, strides in SHAPES[-1:] if options.quick else SHAPES:
        images = tf.random.normal((BATCH_SIZE, side, side, channels))
        times: dict[str, list[float]] = {}
        compiled = contestants(channels, groups, strides)
        for number in range(options.rounds + 1):
            for name, (on, step) in compiled.items():
                kernels.use(on)  # the first round traces with this size
                start = time.perf_counter()
                for gradient in step(images):
                    gradient.numpy()
                if number:
                    times.setdefault(name, []).append((time.perf_counter() - start) * 1e3)
        kernels.use(True)
        ours, theirs = (statistics.median(times[name]) for name in ("keras_resnet", "Keras"))
        rows.append({"shape": [side, channels, groups, strides], "ms": {"keras_resnet": ours, "Keras": theirs}})
        shape = f"{side} | {channels} | {groups} | {strides}"
        print(f"| {shape} | {ours:.1f} | {theirs:.1f} | {theirs / ours:.1f} |", flush=True)
    if options.json:
        from benchmarks.contest import machine
        from keras_resnet import files

        files.write_text(options.json, json.dumps({**machine(), "figures": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
