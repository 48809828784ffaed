"""What runs inside the process of one contestant of `benchmarks.gpu`: networks in bfloat16, timed whenever asked.

    KERAS_BACKEND=jax python -m benchmarks.gpu_contestants keras|timm [--size 224] [--device cuda|cpu]

Reads a request per line, answers with a line of JSON: `train BATCH STEPS` and `infer BATCH STEPS` with the seconds of a
step of ResNet-50, `matrix` and `memory` with the ceilings that this process measures, `cifar FILE EPOCHS SECONDS` with
the accuracies of a ResNet-18 after each epoch and the seconds until then.
"""

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

CLASSES, ROUNDS = 1000, 5


class Keras:
    """This package on the Keras backend of the environment, in mixed_bfloat16, by `fit` and `predict_on_batch`."""

    def __init__(self, options: argparse.Namespace) -> None:
        import keras

        keras.config.set_dtype_policy("mixed_bfloat16")
        self.options, self.backend = options, keras.config.backend()

    def network(self) -> Any:
        """Returns a ResNet."""
        import keras_resnet

        shape, stem = (self.options.size, self.options.size, 3), "small" if self.options.size < 64 else "conv7"
        return keras_resnet.models.build(
            self.options.model, input_shape=shape, stem=stem, width=self.options.width, classes=CLASSES
        )

    def batch(self, count: int) -> tuple[Any, Any]:
        """Returns random images and labels on the device."""
        import keras

        images = keras.random.uniform((count, self.options.size, self.options.size, 3), seed=0)
        return images, keras.ops.cast(keras.random.uniform((count,), maxval=CLASSES, seed=1), "int32")

    def train(self, count: int) -> Callable[[int], float]:
        """Returns steps of `fit`: a function of their number that returns the seconds of one."""
        import keras

        model, batch = self.network(), self.batch(count)
        model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")

        def batches(steps: int) -> Any:
            for _ in range(steps):
                yield batch

        def steps(number: int) -> float:
            # The second epoch alone: the first one starts the loop.
            clock = EpochClock()
            model.fit(batches(2 * number), steps_per_epoch=number, epochs=2, verbose=0, callbacks=[clock.callback()])
            return clock.seconds[1] / number

        return steps

    def infer(self, count: int) -> Callable[[int], float]:
        """Returns calls of `predict_on_batch`."""
        import keras_resnet

        model, (images, _) = keras_resnet.fuse(self.network()), self.batch(count)
        return lambda number: _seconds_a_call(lambda: model.predict_on_batch(images), number)

    def product(self, side: int) -> Callable[[], Any]:
        """Returns a call of a product of two square matrices in bfloat16 that waits for its end."""
        left, right = (self._random((side, side), seed) for seed in (0, 1))
        return self._waiting(lambda a, b: a @ b, left, right)

    def copy(self, values: int) -> Callable[[], Any]:
        """Returns a call that reads and writes that many bfloat16 numbers."""
        return self._waiting(lambda a: a + 1, self._random((values,), 0))

    def _random(self, shape: tuple[int, ...], seed: int) -> Any:
        import keras

        return keras.random.uniform(shape, seed=seed, dtype="bfloat16")

    def _waiting(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        if self.backend == "jax":
            import jax

            compiled = jax.jit(function)
            return lambda: compiled(*arguments).block_until_ready()
        if self.backend == "torch":
            return lambda: _torch_waits(lambda: function(*arguments))
        return lambda: function(*arguments)

    def cifar(self, path: str, epochs: int, limit: float) -> dict[str, Any]:
        """Returns how a ResNet-18 learns CIFAR-10 whose changes of images are made in the training step."""
        import keras
        import numpy as np

        import keras_resnet
        from keras_resnet import preprocessing

        with np.load(path) as file:
            arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
        keras.utils.set_random_seed(0)
        shape = arrays["x_train"].shape[1:]
        inputs = keras.Input(shape)
        mean, deviation = arrays["x_train"].mean((0, 1, 2)), arrays["x_train"].std((0, 1, 2))
        scaled = keras.layers.Normalization(mean=mean, variance=deviation**2)(inputs)
        network = keras_resnet.ResNet18(input_tensor=scaled, stem="small", width=self.options.width, classes=10)
        changes = preprocessing.augmentation(flip=True, pad_and_crop=4)
        model = preprocessing.transform_in_step(keras.Model)(network.inputs, network.outputs)
        model.transforms = preprocessing.BatchTransforms(
            {"augmentation": lambda x, y, s: (changes.apply(x, s), y)}, seed=0
        )
        batch = min(512, len(arrays["x_train"]))
        steps = epochs * (len(arrays["x_train"]) // batch)
        rate = keras.optimizers.schedules.CosineDecay(1e-3, steps, warmup_target=0.4, warmup_steps=steps // 4)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=0.005)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        clock = EpochClock(limit)
        history = model.fit(
            arrays["x_train"][: steps // epochs * batch],
            arrays["y_train"][: steps // epochs * batch],
            batch_size=batch,
            epochs=epochs,
            validation_data=(arrays["x_test"], arrays["y_test"]),
            validation_batch_size=1000,
            verbose=0,
            callbacks=[clock.callback()],
        ).history
        return {"accuracies": history["val_accuracy"], "seconds": clock.seconds}


class EpochClock:
    """Seconds of each epoch, and an end of training after `limit` seconds."""

    def __init__(self, limit: float = float("inf")) -> None:
        self.seconds: list[float] = []
        self.limit = limit

    def callback(self) -> Any:
        """Returns the callback of Keras that keeps the time."""
        import keras

        clock = self

        class Clock(keras.callbacks.Callback):
            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.start = time.perf_counter()

            def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
                float((logs or {}).get("loss", 0.0))  # waits for the device
                clock.seconds.append(time.perf_counter() - self.start)
                self.model.stop_training = sum(clock.seconds) + clock.seconds[-1] > clock.limit

        return Clock()


class Timm:
    """timm in PyTorch: autocast in bfloat16, channels_last, compiled; images stay on the device."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options

    def _network(self, training: bool) -> Any:
        from benchmarks import contestants

        model = contestants.timm_network(self.options)
        import torch

        model = model.to(self.options.device, memory_format=torch.channels_last).train(training)
        return torch.compile(model) if not self.options.eager else model

    def _images(self, count: int) -> Any:
        import torch

        images = torch.rand(count, 3, self.options.size, self.options.size, device=self.options.device)
        return images.to(memory_format=torch.channels_last)

    def train(self, count: int) -> Callable[[int], float]:
        """Returns steps of the usual loop."""
        model = self._network(training=True)
        import torch

        images, labels = self._images(count), torch.randint(0, CLASSES, (count,), device=self.options.device)
        optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

        def once() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(self.options.device, torch.bfloat16):
                loss = torch.nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()

        def steps(number: int) -> float:
            once()
            _torch_waits(lambda: None)
            start = time.perf_counter()
            for _ in range(number):
                once()
            _torch_waits(lambda: None)
            return (time.perf_counter() - start) / number

        return steps

    def infer(self, count: int) -> Callable[[int], float]:
        """Returns passes whose result is brought to the host, as Keras brings it."""
        model = self._network(training=False)
        import torch

        images = self._images(count)

        def once() -> Any:
            with torch.inference_mode(), torch.autocast(self.options.device, torch.bfloat16):
                return model(images).float().cpu()

        return lambda number: _seconds_a_call(once, number)

    def product(self, side: int) -> Callable[[], Any]:
        """Returns a call of a product of two square matrices in bfloat16 that waits for its end."""
        import torch

        left, right = (torch.rand(side, side, dtype=torch.bfloat16, device=self.options.device) for _ in range(2))
        return lambda: _torch_waits(lambda: left @ right)

    def copy(self, values: int) -> Callable[[], Any]:
        """Returns a call that reads and writes that many bfloat16 numbers."""
        import torch

        source = torch.rand(values, dtype=torch.bfloat16, device=self.options.device)
        return lambda: _torch_waits(lambda: source + 1)


def _torch_waits(call: Callable[[], Any]) -> Any:
    import torch

    result = call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result


def _seconds_a_call(call: Callable[[], Any], number: int) -> float:
    call()
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def main() -> None:
    """Answers requests until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", choices=("keras", "timm"))
    parser.add_argument("--model", choices=("resnet18", "resnet50"), default="resnet50")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--eager", action="store_true", help="timm without torch.compile")
    for option, default in (("--size", 224), ("--width", 64), ("--matrix", 8192), ("--values", 2**29)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    library = Keras(options) if options.library == "keras" else Timm(options)
    built: dict[str, Callable[[int], float]] = {}
    for line in sys.stdin:
        word, *rest = line.split()
        if word == "cifar":
            answer = library.cifar(rest[0], int(rest[1]), float(rest[2]))  # type: ignore[union-attr]
        elif word == "matrix":
            call = library.product(options.matrix)
            answer = {"tflops": 2 * options.matrix**3 / min(_seconds_a_call(call, 3) for _ in range(ROUNDS)) / 1e12}
        elif word == "memory":
            call = library.copy(options.values)
            answer = {"gigabytes": 4 * options.values / min(_seconds_a_call(call, 3) for _ in range(ROUNDS)) / 1e9}
        else:
            batch, steps = rest
            if f"{word} {batch}" not in built:
                built.clear()  # one network at a time keeps the device's memory
                gc.collect()
                built[f"{word} {batch}"] = getattr(library, word)(int(batch))
                built[f"{word} {batch}"](2)
            answer = {"seconds": built[f"{word} {batch}"](int(steps))}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    main()
