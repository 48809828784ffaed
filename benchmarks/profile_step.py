"""Where the time of a training step goes: TensorFlow's operations by kind, their count, time and share.

    python -m benchmarks.profile_step [--model resnet50] [--size 224] [--batch 16] [--width 64]
        [--dtype float32|mixed_bfloat16] [--steps 3] [--mode train|infer] [--json FILE]

Operations that run side by side on two threads are counted in full: shares are of busy time and not of the clock.
"""

import argparse
import collections
import json
import os
import pathlib
import statistics
import tempfile
import time
from typing import Any

# Of the executor: they hold operations, and would count them twice.
NOT_OPERATIONS = ("Process", "Run", "Record", "StartRegion", "StopRegion")


def busy_times(folder: pathlib.Path) -> dict[str, tuple[int, float]]:
    """Returns kind of operation -> (count, seconds), from the trace that TensorFlow's profiler left."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    times: dict[str, list[float]] = collections.defaultdict(list)
    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            if not plane.name.startswith("/host:CPU"):
                continue
            for line in plane.lines:
                for event in line.events:
                    # "name/of/the/node:Kind" are operations; other events are the executor's own.
                    name = plane.event_metadata[event.metadata_id].name
                    _, colon, kind = name.rpartition(":")
                    is_operation = colon and kind.isidentifier() and (kind[0].isupper() or kind.startswith("_"))
                    if is_operation and kind not in NOT_OPERATIONS:
                        times[kind].append(event.duration_ps / 1e12)
    return {kind: (len(seconds), sum(seconds)) for kind, seconds in times.items()}


def main() -> None:
    """Builds, trains or predicts a few steps under the profiler, prints the table and writes the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("resnet18", "resnet50"), default="resnet50")
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--dtype", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32")
    for option, default in (("--size", 224), ("--batch", 16), ("--width", 64), ("--steps", 3)):
        parser.add_argument(option, type=int, default=default)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to try the script")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    if options.quick:
        options.model, options.size, options.width, options.batch = "resnet18", 8, 4, 2
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks.contest import machine
    from keras_resnet import files, models

    model = models.build(
        options.model,
        input_shape=(options.size, options.size, 3),
        stem="small" if options.size < 64 else "conv7",
        width=options.width,
        dtype=options.dtype,
    )
    if options.mode == "infer":
        model = models.fuse(model)
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=False)
    draw = np.random.default_rng(0)
    images = draw.random((options.batch, options.size, options.size, 3), dtype="float32")
    labels = draw.integers(0, 1000, options.batch)

    def run(steps: int) -> float:
        batches = tf.data.Dataset.from_tensors((images, labels)).repeat(steps)
        batches = batches.with_options(_without_autotune(tf))
        start = time.perf_counter()
        if options.mode == "train":
            model.fit(batches, verbose=0, shuffle=False)
        else:
            model.predict(batches, verbose=0)
        return (time.perf_counter() - start) / steps

    run(2)
    seconds = statistics.median(run(options.steps) for _ in range(3))
    with tempfile.TemporaryDirectory() as name:
        tf.profiler.experimental.start(name)
        run(options.steps)
        tf.profiler.experimental.stop()
        times = busy_times(pathlib.Path(name))
    total = sum(spent for _, spent in times.values()) or 1.0
    rows: list[dict[str, Any]] = [
        {
            "operation": kind,
            "count": count / options.steps,
            "milliseconds": spent / options.steps * 1e3,
            "share": spent / total,
        }
        for kind, (count, spent) in sorted(times.items(), key=lambda item: -item[1][1])
    ]
    if options.json:
        facts = {**machine(), **{key: value for key, value in vars(options).items() if key != "json"}}
        text = json.dumps({**facts, "seconds_per_step": seconds, "rows": rows}, indent=1)
        files.write_text(options.json, text + "\n")
    title = f"{options.model}, {options.size} px, batch {options.batch}, width {options.width}, {options.dtype}"
    print(f"{title}, {options.mode}: {seconds * 1e3:.0f} ms a step, {options.batch / seconds:.1f} images/s")
    print("| operation | count a step | ms a step | share of busy time |\n| --- | ---: | ---: | ---: |")
    for row in rows[:25]:
        figures = f"{row['count']:.0f} | {row['milliseconds']:.1f} | {row['share']:.1%}"
        print(f"| {row['operation']} | {figures} |")


def _without_autotune(tf: Any) -> Any:
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread would hold up the end of the loop
    return options


if __name__ == "__main__":
    main()
