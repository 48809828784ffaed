"""What runs inside the process of one contestant: builds a network, then takes steps whenever it is asked to.

    python -m benchmarks.contestants NAME --mode train --model resnet50 --size 224 --width 64 --batch 16

Reads the number of steps from standard input, a line at a time, and answers with a line of JSON: the seconds of each
step. The first answer comes unasked, when the network is built and warm. Nothing of this package is imported for the
networks of others.
"""

import argparse
import contextlib
import importlib
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.exports import NAMES as EXPORTED
from benchmarks.exports import export_steps

Steps = Callable[[int], list[float]]
CLASSES = 1000


def matrix_peak(product: Callable[[int], Callable[[], Any]]) -> float:
    """Returns the fastest float32 matrix product, in GFLOP/s, of three sizes and five calls each."""
    best = 0.0
    for side in (1024, 2048, 4096):
        call = product(side)
        call()
        for _ in range(5):
            start = time.perf_counter()
            call()
            best = max(best, 2 * side**3 / (time.perf_counter() - start) / 1e9)
    return best


def tensorflow_product(side: int) -> Callable[[], Any]:
    """Returns a call of TensorFlow's product of two square matrices."""
    import tensorflow as tf

    left, right = tf.random.normal([side, side]), tf.random.normal([side, side])
    return lambda: tf.matmul(left, right)


def torch_product(side: int) -> Callable[[], Any]:
    """Returns a call of PyTorch's product of two square matrices."""
    import torch

    left, right = torch.randn(side, side), torch.randn(side, side)
    return lambda: left @ right


def clocked(once: Callable[[], Any]) -> Steps:
    """Returns steps of a call, each timed by itself."""

    def steps(count: int) -> list[float]:
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            once()
            seconds.append(time.perf_counter() - start)
        return seconds

    return steps


def keras_resnet(options: argparse.Namespace) -> Any:
    """Returns this package's network."""
    import keras_resnet as package

    stem = "small" if options.size < 64 else "conv7"
    shape = (options.size, options.size, 3)
    return package.models.build(options.model, input_shape=shape, width=options.width, stem=stem, classes=CLASSES)


def keras_resnet_fused(options: argparse.Namespace) -> Any:
    """Returns this package's network with its batch norms folded."""
    import keras_resnet as package

    return package.fuse(keras_resnet(options))


def keras_resnet_recompute(options: argparse.Namespace) -> Any:
    """Returns this package's network, whose blocks keep their input alone."""
    import keras_resnet as package

    return package.models.recompute(keras_resnet(options))


def keras_applications(options: argparse.Namespace) -> Any:
    """Returns ResNet-50 of keras.applications."""
    if (options.model, options.width) != ("resnet50", 64):
        raise ValueError(f"keras.applications has no {options.model} of width {options.width}")
    import keras

    return keras.applications.ResNet50(weights=None, input_shape=(options.size, options.size, 3))


def keras_hub(options: argparse.Namespace) -> Any:
    """Returns keras-hub's network, with the same head."""
    if options.width != 64 or options.size < 64:
        raise ValueError(f"keras-hub has no network of width {options.width} for {options.size} px")
    import keras
    import keras_hub as hub

    depths, block = {
        "resnet18": ([2, 2, 2, 2], "basic_block"),
        "resnet50": ([3, 4, 6, 3], "bottleneck_block"),
    }[options.model]
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=depths,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        image_shape=(options.size, options.size, 3),
    )
    pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
    return keras.Model(backbone.input, keras.layers.Dense(CLASSES, activation="softmax")(pooled))


def keras_steps(build: Callable[[argparse.Namespace], Any], options: argparse.Namespace) -> Steps:
    """Returns steps of `model.fit` or batches of `model.predict`."""
    import keras
    import numpy as np
    import tensorflow as tf

    if options.dtype == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs: Any = None) -> None:
            self.times = [time.perf_counter()]

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.times.append(time.perf_counter())

        on_predict_begin, on_predict_batch_end = on_train_begin, on_train_batch_end

        def seconds(self) -> list[float]:
            # The first step of each request starts the loop, too.
            return [after - before for before, after in zip(self.times, self.times[1:], strict=False)][1:]

    def repeated(batch: Any, steps: int) -> tf.data.Dataset:
        # The autotuner would hold up the end of the loop, on a thread that then runs into the next one's turn.
        untuned = tf.data.Options()
        untuned.autotune.enabled = False
        return tf.data.Dataset.from_tensors(batch).repeat(steps).prefetch(1).with_options(untuned)

    draw = np.random.default_rng(0)
    images = draw.random((options.batch, options.size, options.size, 3), dtype="float32")
    labels = draw.integers(0, CLASSES, options.batch)
    model = build(options)
    if options.mode == "infer":
        if options.name == "keras_resnet_function":
            import keras_resnet as package

            infer = package.models.inference_function(model)

            return clocked(lambda: np.asarray(infer(images)))

        def predict(steps: int) -> list[float]:
            clock = Clock()
            model.predict(repeated(images, steps), verbose=0, callbacks=[clock])
            return clock.seconds()

        return predict
    optimizer = keras.optimizers.SGD(0.01, momentum=0.9)
    is_compiled = options.xla or keras.config.backend() == "jax"  # where steps are slow operation by operation
    model.compile(optimizer, "sparse_categorical_crossentropy", jit_compile=is_compiled)

    def fit(steps: int) -> list[float]:
        clock = Clock()
        model.fit(repeated((images, labels), steps), verbose=0, shuffle=False, callbacks=[clock])
        return clock.seconds()

    return fit


def timm_network(options: argparse.Namespace) -> Any:
    """Returns timm's network; with one 3x3 convolution as its stem for images under 64 px, as here."""
    from benchmarks.peers import without_torchvision

    without_torchvision()
    import torch
    from timm.models.resnet import BasicBlock, Bottleneck, ResNet

    block, depths = {"resnet18": (BasicBlock, (2, 2, 2, 2)), "resnet50": (Bottleneck, (3, 4, 6, 3))}[options.model]
    model = ResNet(block, depths, num_classes=CLASSES, channels=tuple(options.width * 2**stage for stage in range(4)))
    if options.size < 64:
        model.conv1 = torch.nn.Conv2d(getattr(options, "channels", 3), options.width, 3, 1, 1, bias=False)
        model.bn1, model.maxpool = torch.nn.BatchNorm2d(options.width), torch.nn.Identity()
        if options.width != 64:  # timm's stem has 64 channels, which its first block would have to project
            model.layer1[0] = block(options.width, options.width)
    return model


def timm_steps(form: str, options: argparse.Namespace) -> Steps:
    """Returns steps of the usual loop in PyTorch, or passes in inference mode."""
    model = timm_network(options)
    import torch

    images = torch.rand(options.batch, 3, options.size, options.size)
    labels = torch.randint(0, CLASSES, (options.batch,))
    if form != "eager":
        model, images = (thing.to(memory_format=torch.channels_last) for thing in (model, images))
    model.train(options.mode == "train")
    if os.environ.get("ATEN_CPU_CAPABILITY") == "avx2":  # the max pool that is compiled for it indexes out of bounds
        model.maxpool.forward = torch.compiler.disable(model.maxpool.forward)
    run = torch.compile(model) if form == "compiled" else model
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)

    def forward() -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bfloat16"):
            return run(images)

    def once() -> None:
        if options.mode == "infer":
            with torch.inference_mode():
                forward()
            return
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(forward().float(), labels).backward()
        optimizer.step()

    return clocked(once)


def flax_network(options: argparse.Namespace) -> Any:
    """Returns a plain ResNet in Flax, with the stem of this package for the size."""
    from functools import partial

    import flax.linen as nn

    depths, is_bottleneck = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}[options.model]
    conv = partial(nn.Conv, use_bias=False)

    class Block(nn.Module):
        filters: int
        strides: int

        @nn.compact
        def __call__(self, x: Any) -> Any:
            norm = partial(nn.BatchNorm, use_running_average=False, momentum=0.9)
            steps, out = (self.strides, self.strides), self.filters * (4 if is_bottleneck else 1)
            if is_bottleneck:
                y = nn.relu(norm()(conv(self.filters, (1, 1))(x)))
                y = nn.relu(norm()(conv(self.filters, (3, 3), steps)(y)))
                y = norm(scale_init=nn.initializers.zeros)(conv(out, (1, 1))(y))
            else:
                y = nn.relu(norm()(conv(self.filters, (3, 3), steps)(x)))
                y = norm(scale_init=nn.initializers.zeros)(conv(out, (3, 3))(y))
            if x.shape != y.shape:
                x = norm()(conv(out, (1, 1), steps)(x))
            return nn.relu(x + y)

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            small = options.size < 64
            x = conv(options.width, (3, 3) if small else (7, 7), (1, 1) if small else (2, 2))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=False, momentum=0.9)(x))
            x = x if small else nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
            for stage, depth in enumerate(depths):
                for number in range(depth):
                    x = Block(options.width * 2**stage, 2 if stage and not number else 1)(x)
            return nn.Dense(CLASSES)(x.mean((1, 2)))

    return Network()


def flax_steps(options: argparse.Namespace) -> Steps:
    """Returns training steps of the usual loop in JAX."""
    import jax
    import optax

    model, optimizer = flax_network(options), optax.sgd(0.01, momentum=0.9)
    images = jax.random.uniform(jax.random.key(0), (options.batch, options.size, options.size, 3))
    labels = jax.random.randint(jax.random.key(1), (options.batch,), 0, CLASSES)
    variables = model.init(jax.random.key(2), images)
    state = [variables["params"], variables["batch_stats"], optimizer.init(variables["params"])]

    @jax.jit
    def step(weights: Any, moving: Any, slots: Any) -> Any:
        def loss_of(weights: Any) -> Any:
            variables = {"params": weights, "batch_stats": moving}
            logits, moved = model.apply(variables, images, mutable=["batch_stats"])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), moved["batch_stats"]

        (loss, moved), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights)
        changes, slots = optimizer.update(gradients, slots, weights)
        return optax.apply_updates(weights, changes), moved, slots, loss

    def once() -> None:
        *state[:], loss = step(*state)
        loss.block_until_ready()

    return clocked(once)


KERAS_CONTESTANTS = {
    "keras_resnet_torch": keras_resnet,  # on other backends, by their environment
    "keras_resnet_jax": keras_resnet,
    "keras_resnet": keras_resnet,
    "keras_resnet_stock": keras_resnet,  # its environment turns the kernels off
    "keras_resnet_fused": keras_resnet_fused,
    "keras_resnet_function": keras_resnet_fused,  # called as `inference_function` makes it
    "keras_resnet_recompute": keras_resnet_recompute,
    "keras_applications": keras_applications,
    "keras_hub": keras_hub,
}
TIMM_CONTESTANTS = {"timm_eager": "eager", "timm_channels_last": "channels_last", "timm_compiled": "compiled"}
NAMES = (*KERAS_CONTESTANTS, *TIMM_CONTESTANTS, *EXPORTED, "flax")


def peak_memory() -> float:
    """Returns the largest resident memory of this process so far, in MiB."""
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) / 1024 for line in file if line.startswith("VmHWM"))


def versions() -> dict[str, str]:
    """Returns the versions of what this process has loaded."""
    names = ("tensorflow", "keras", "keras_hub", "torch", "timm", "numpy", "onnxruntime", "openvino", "ai_edge_litert")
    names = (*names, "jax", "flax")
    loaded = [name for name in names if name in sys.modules]
    return {name: str(getattr(importlib.import_module(name), "__version__", "?")) for name in loaded}


def main() -> None:
    """Builds, warms up, and answers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--mode", choices=("train", "infer"), default="train")
    parser.add_argument("--model", choices=("resnet18", "resnet50"), default="resnet50")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--xla", action="store_true", help="jit_compile=True (Keras)")
    for option, default in (("--size", 224), ("--width", 64), ("--batch", 16), ("--warm-up", 3)):
        parser.add_argument(option, type=int, default=default)
    options = parser.parse_args()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever else prints does not answer
    start = time.perf_counter()
    if options.name in KERAS_CONTESTANTS:
        steps, product = keras_steps(KERAS_CONTESTANTS[options.name], options), tensorflow_product
    elif options.name in EXPORTED:
        steps = export_steps(options.name, options)
        product = torch_product if options.name == "timm_onnx" else tensorflow_product
    elif options.name == "flax":
        steps, product = flax_steps(options), tensorflow_product
    else:
        steps, product = timm_steps(TIMM_CONTESTANTS[options.name], options), torch_product
    empty = peak_memory()
    steps(options.warm_up)
    ready = {"ready_seconds": time.perf_counter() - start, "built_mebibytes": empty, "peak_mebibytes": peak_memory()}
    print(json.dumps({**ready, "versions": versions()}), file=answers)
    with contextlib.suppress(KeyboardInterrupt):
        for line in sys.stdin:
            request = line.strip()
            if request == "peak":
                print(json.dumps({"gflops": matrix_peak(product)}), file=answers)
                continue
            seconds = steps(int(request))
            print(json.dumps({"seconds": seconds, "median": statistics.median(seconds)}), file=answers)


if __name__ == "__main__":
    main()
