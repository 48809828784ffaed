"""Seconds of work against seconds until `fit`, `evaluate` and `predict` return, for this package's data and for arrays.

TensorFlow's autotuner holds up the end of a loop until its thread wakes: an iterator that is let go waits for it. The
work is counted to the last batch, the call to its return. Arrays go through the pipeline that Keras makes of them.

    python -m benchmarks.loop_ends --calls 30 --json FILE
"""

import argparse
import json
import statistics
import time
from typing import Any

import keras

from benchmarks.contest import machine
from keras_resnet import ResNet18, data, files, preprocessing


class LastBatch(keras.callbacks.Callback):
    """Notes when the last batch was done."""

    ended = 0.0

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Looks at the clock."""
        self.ended = time.perf_counter()

    on_test_batch_end = on_train_batch_end
    on_predict_batch_end = on_train_batch_end


def main() -> None:
    """Runs the calls in turns and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=30, metavar="N", help="of each kind")
    parser.add_argument("--steps", type=int, default=60, metavar="N", help="batches a call of fit")
    parser.add_argument("--json", metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args()
    digits = data.load("digits")
    images, labels = digits.arrays("train")
    image = keras.Input(digits.image_shape)
    scaled = preprocessing.InputNormalization("unit")(image)
    model = ResNet18(input_tensor=scaled, stem="small", width=16, classes=10)
    model.compile("sgd", "sparse_categorical_crossentropy")
    steps = min(options.steps, len(images) // 32)
    some = slice(0, steps * 32)
    calls = {
        ("fit", "this package"): lambda watch: model.fit(
            digits.training_batches(32, seed=0), steps_per_epoch=steps, shuffle=False, verbose=0, callbacks=[watch]
        ),
        ("fit", "arrays"): lambda watch: model.fit(images[some], labels[some], verbose=0, callbacks=[watch]),
        ("evaluate", "this package"): lambda watch: model.evaluate(
            digits.batches("train", 32), verbose=0, callbacks=[watch]
        ),
        ("evaluate", "arrays"): lambda watch: model.evaluate(images, labels, verbose=0, callbacks=[watch]),
        ("predict", "this package"): lambda watch: model.predict(
            digits.batches("train", 32).map(lambda images, _: images), verbose=0, callbacks=[watch]
        ),
        ("predict", "arrays"): lambda watch: model.predict(images, verbose=0, callbacks=[watch]),
    }
    figures: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in calls}
    for call in calls.values():  # the first of each builds its graph
        call(LastBatch())
    for _ in range(options.calls):
        for key, call in calls.items():
            watch, begun = LastBatch(), time.perf_counter()
            call(watch)
            figures[key].append((watch.ended - begun, time.perf_counter() - watch.ended))
    print("| call | data | seconds of work, median | late, median | late, mean | late, most |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for (call, source), seconds in figures.items():
        work, late = [row[0] for row in seconds], [row[1] for row in seconds]
        print(
            f"| {call} | {source} | {statistics.median(work):.2f} | {statistics.median(late):.3f} "
            f"| {statistics.mean(late):.3f} | {max(late):.3f} |"
        )
    if options.json:
        rows = [{"call": call, "data": source, "seconds": rows} for (call, source), rows in figures.items()]
        files.write_text(options.json, json.dumps({**machine(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
