"""Which form of a convolution's gradient is fastest for which shape: measures what `kernels/selection.py` chooses from.

Times every form of the gradients by the input and by the kernel over the convolutions of ResNet-18 and -50, in turns,
and compares the form that the table takes with the fastest one and with TensorFlow's own.

    python -m benchmarks.kernel_forms [--engine onednn|eigen] [--dtype float32|bfloat16] [--rounds 5] [--json FILE]

"eigen" is TensorFlow without oneDNN, its default on CPUs older than AVX-512 VNNI. `ONEDNN_MAX_CPU_ISA=AVX2` in the
environment measures what oneDNN does on a CPU without AVX-512.
"""

import argparse
import datetime
import json
import math
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

# (batch, [(input size, input channels, window, strides, filters)]): every convolution that differs, once.
NETWORKS = {
    "resnet50 224 px": (
        16,
        [
            *((56, 64, 1, 1, 64), (56, 64, 3, 1, 64), (56, 64, 1, 1, 256), (56, 256, 1, 1, 64), (56, 256, 1, 1, 128)),
            *((56, 128, 3, 2, 128), (56, 256, 1, 2, 512), (28, 128, 1, 1, 512), (28, 512, 1, 1, 128)),
            *((28, 128, 3, 1, 128), (28, 512, 1, 1, 256), (28, 256, 3, 2, 256), (28, 512, 1, 2, 1024)),
            *((14, 256, 1, 1, 1024), (14, 1024, 1, 1, 256), (14, 256, 3, 1, 256), (14, 1024, 1, 1, 512)),
            *((14, 512, 3, 2, 512), (14, 1024, 1, 2, 2048), (7, 512, 1, 1, 2048), (7, 2048, 1, 1, 512)),
            *((7, 512, 3, 1, 512), (224, 3, 7, 2, 64)),
        ],
    ),
    "resnet18 224 px": (16, [(56, 64, 3, 2, 128), (28, 128, 3, 2, 256), (14, 256, 3, 2, 512), (14, 256, 1, 2, 512)]),
    "resnet18 32 px, width 16": (
        64,
        [
            *((32, 3, 3, 1, 16), (32, 16, 3, 1, 16), (32, 16, 3, 2, 32), (32, 16, 1, 2, 32), (16, 32, 3, 1, 32)),
            *((16, 32, 3, 2, 64), (16, 32, 1, 2, 64), (8, 64, 3, 1, 64), (8, 64, 3, 2, 128), (8, 64, 1, 2, 128)),
            (4, 128, 3, 1, 128),
        ],
    ),
    "resnet18 32 px": (
        64,
        [
            *((32, 3, 3, 1, 64), (32, 64, 3, 1, 64), (32, 64, 3, 2, 128), (16, 128, 3, 1, 128), (16, 128, 3, 2, 256)),
            *((8, 256, 3, 1, 256), (8, 256, 3, 2, 512), (8, 256, 1, 2, 512), (4, 512, 3, 1, 512)),
        ],
    ),
    "resnet18 8 px": (
        64,
        [
            *((8, 1, 3, 1, 64), (8, 64, 3, 1, 64), (8, 64, 3, 2, 128), (8, 64, 1, 2, 128), (4, 128, 3, 1, 128)),
            *((4, 128, 3, 2, 256), (4, 128, 1, 2, 256), (2, 256, 3, 1, 256), (2, 256, 3, 2, 512)),
            *((2, 256, 1, 2, 512), (1, 512, 3, 1, 512)),
        ],
    ),
}
QUICK = {"tiny": (2, [(4, 3, 3, 1, 4), (4, 3, 3, 2, 4), (4, 3, 1, 2, 4), (2, 3, 3, 2, 4), (1, 3, 3, 1, 4)])}


def in_turns(functions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Returns the median seconds of each function, called in turns, each turn lasting at least 30 ms."""
    calls = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        calls[name] = max(1, math.ceil(0.03 / (time.perf_counter() - start)))
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(calls[name]):
                function()
            seconds[name].append((time.perf_counter() - start) / calls[name])
    return {name: statistics.median(times) for name, times in seconds.items()}


def fitting(form: str, passed: str, window: list[int], strides: int) -> bool:
    """Returns whether a form can compute a convolution at all, and is worth a try."""
    return {
        "matmul": max(window) == 1 and (strides == 1 or passed == "kernel"),
        "scatter": max(window) == 1 and strides > 1,
        "flip": strides == 1 and max(window) > 1,
        "phases": strides > 1 and min(window) >= strides,
        "taps": 1 < max(window) < 7,
        "forward": strides == 1 and max(window) > 1,
        "explicit": max(window) > 1 and strides > 1,
    }.get(form, True)


def measure_convolution(batch: int, sizes: tuple[int, ...], rounds: int, dtype: str):
    """Yields a row for the gradient by the input and one for the gradient by the kernel."""
    import tensorflow as tf

    from keras_resnet.blocks.kernels import convolution, gradients, selection

    size, channels, width, strides, filters = sizes
    inputs = tf.cast(tf.random.normal([batch, size, size, channels]), dtype)
    kernel, geometry = convolution.live_part(
        tf.cast(tf.random.normal([width, width, channels, filters]), dtype), [size, size], (strides, strides)
    )
    outputs = gradients.convolve(inputs, kernel, geometry)
    upstream = tf.cast(tf.random.normal(outputs.shape), dtype)
    window, steps, side = kernel.shape[:2].as_list(), max(geometry.strides), outputs.shape[1]
    flops = 2 * upstream.shape.num_elements() * math.prod(window) * channels
    for passed, forms, table in (
        ("input", gradients.INPUT_GRADIENTS, selection.INPUT_FORMS),
        ("kernel", gradients.FILTER_GRADIENTS, selection.FILTER_FORMS),
    ):
        if passed == "input" and channels <= 3:
            continue  # nobody asks for the gradient by the image
        compiled = {
            name: tf.function(lambda x, k, u, form=form: form(x, k, u, geometry))
            for name, form in forms.items()
            if fitting(name, passed, window, steps)
        }
        calls = {name: (lambda f=f: f(inputs, kernel, upstream)) for name, f in compiled.items()}
        seconds = in_turns(calls, rounds)
        chosen = selection.choose_form(table, tuple(window), geometry.strides, side, channels, dtype)
        # The table may name a form that is the stock one for this shape.
        chosen_seconds = seconds.get(chosen, seconds["stock"])
        fastest = min(seconds, key=seconds.__getitem__)
        yield {
            "gradient_by": passed,
            "convolution": f"{size} px, {channels} to {filters}, {width}x{width}, stride {strides}",
            "milliseconds": {name: 1000 * value for name, value in seconds.items()},
            "chosen": chosen,
            "fastest": fastest,
            "gflops_per_second": flops / chosen_seconds / 1e9,
            "stock_over_chosen": seconds["stock"] / chosen_seconds,
            "chosen_over_fastest": chosen_seconds / seconds[fastest],
        }


def main() -> None:
    """Measures, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("onednn", "eigen"), help="default: what TensorFlow takes here")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="in which is computed")
    parser.add_argument("--only", metavar="TEXT", help="networks whose name holds TEXT")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to try the script")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    if options.engine:
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = str(int(options.engine == "onednn"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    from keras_resnet import files
    from keras_resnet.blocks.kernels import selection

    machine_text = (f"TensorFlow {tf.__version__}", selection.engine(), options.dtype, f"{os.cpu_count()} cores")
    print(", ".join((str(datetime.date.today()), *machine_text)))
    print("| gradient by | convolution | ms of each form | taken | TensorFlow's / taken | taken / fastest |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for network, (batch, convolutions) in (QUICK if options.quick else NETWORKS).items():
        if options.only and options.only not in network:
            continue
        for sizes in convolutions:
            for row in measure_convolution(batch, sizes, options.rounds, options.dtype):
                rows.append({"network": network, "batch": batch, **row})
                times = ", ".join(f"{name} {value:.2f}" for name, value in row["milliseconds"].items())
                ratios = f"{row['stock_over_chosen']:.2f} | {row['chosen_over_fastest']:.2f}"
                print(
                    f"| {row['gradient_by']} | {row['convolution']} | {times} | {row['chosen']} | {ratios} |",
                    flush=True,
                )
    geometric = {
        name: math.exp(statistics.mean(math.log(row[name]) for row in rows))
        for name in ("stock_over_chosen", "chosen_over_fastest")
    }
    ours, best = geometric["stock_over_chosen"], geometric["chosen_over_fastest"]
    print(f"geometric means: TensorFlow's / taken {ours:.3f}, taken / fastest {best:.3f}")
    if options.json:
        record = {
            "date": str(datetime.date.today()),
            "tensorflow": tf.__version__,
            "engine": selection.engine(),
            "dtype": options.dtype,
            "cores": os.cpu_count(),
            "geometric_means": geometric,
            "rows": rows,
        }
        files.write_text(options.json, json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
