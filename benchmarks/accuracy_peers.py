r"""The same ResNet-18 trained as others do: by Keras's defaults, and in PyTorch by the defaults of timm's script.

    python -m benchmarks.accuracy_peers keras|timm --images FILE.npz [--epochs N | --minutes M] [--seed N] [--width N] \
        --json FILE

`keras`: `compile("adam", ...)` and `fit` on images in [0, 1], batches of 128. `timm`: SGD with Nesterov momentum 0.9,
rate 0.05 under a cosine after five epochs of warm-up, weight decay 2e-5, label smoothing 0.1, batches of 128; flips and
crops of images padded by 4 px in the place of timm's crops, which are made for larger pictures. With `--minutes` it
trains for as many epochs as fit, by the time of the second of two that are thrown away.
"""

import argparse
import json
import time
from typing import Any

import numpy as np

BATCH, PADDING, WARM_UP_EPOCHS, RATE, FIRST_RATE = 128, 4, 5, 0.05, 1e-5


def trained_by_keras(held: dict[str, Any], options: argparse.Namespace) -> float:
    """Returns the test accuracy after Keras's defaults."""
    import keras

    import keras_resnet

    keras.utils.set_random_seed(options.seed)
    keras.config.set_dtype_policy(options.precision)
    shape, classes = held["x_train"].shape[1:], int(held["y_train"].max()) + 1
    model = keras_resnet.ResNet18(input_shape=shape, stem="small", width=options.width, classes=classes)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    scaled = {name: held[name].astype("float32") / 255 for name in ("x_train", "x_test")}
    model.fit(scaled["x_train"], held["y_train"], batch_size=BATCH, epochs=options.epochs, verbose=2)
    return float(model.evaluate(scaled["x_test"], held["y_test"], batch_size=BATCH, verbose=0)[1])


def train_by_timm(images: Any, labels: Any, options: argparse.Namespace) -> tuple[Any, list[float]]:
    """Returns a network that was trained by timm's defaults, and the seconds of each epoch.

    Args:
        images: standardized, float32, channels first.
        labels: classes.
        options: those of the command line.
    """
    from benchmarks.contestants import timm_network

    model = timm_network(options)
    import timm.optim
    import timm.scheduler
    import torch

    torch.manual_seed(options.seed)
    model.reset_classifier(int(labels.max()) + 1)
    model.init_weights()
    model = model.to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(model, opt="sgd", lr=RATE, momentum=0.9, weight_decay=2e-5)
    schedule = timm.scheduler.CosineLRScheduler(
        optimizer,
        options.epochs,
        warmup_t=min(WARM_UP_EPOCHS, options.epochs // 2),
        warmup_lr_init=FIRST_RATE,
        warmup_prefix=False,
    )
    loss_of = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    side, size = images.shape[-1], min(BATCH, len(images))
    half = options.precision == "mixed_bfloat16"
    seconds = []
    for epoch in range(options.epochs):
        start = time.monotonic()
        schedule.step(epoch)
        model.train()
        total = 0.0
        for batch in torch.randperm(len(images)).split(size)[: len(images) // size]:
            padded = torch.nn.functional.pad(images[batch], (PADDING,) * 4)
            padded = torch.where(torch.rand(len(batch), 1, 1, 1) < 0.5, padded.flip(3), padded)
            corners = torch.randint(0, 2 * PADDING + 1, (len(batch), 2)).tolist()
            crops = [one[:, y : y + side, x : x + side] for one, (y, x) in zip(padded, corners, strict=True)]
            inputs = torch.stack(crops).to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                outputs = model(inputs)
            loss = loss_of(outputs.float(), labels[batch])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            total += float(loss.detach())
        print(f"epoch {epoch + 1}: loss {total / (len(images) // size):.4f}", flush=True)
        seconds.append(time.monotonic() - start)
    return model, seconds


def trained_by_timm(held: dict[str, Any], options: argparse.Namespace) -> float:
    """Returns the test accuracy after timm's defaults."""
    import torch

    images, tests = (torch.from_numpy(held[name]).permute(0, 3, 1, 2).float() for name in ("x_train", "x_test"))
    mean, deviation = images.mean((0, 2, 3), keepdim=True), images.std((0, 2, 3), keepdim=True)
    images, tests = (images - mean) / deviation, (tests - mean) / deviation
    labels, truth = (torch.from_numpy(held[name]).long() for name in ("y_train", "y_test"))
    options.model, options.size, options.channels = "resnet18", images.shape[-1], images.shape[1]
    if options.minutes is not None:
        options.epochs = 2
        seconds = train_by_timm(images, labels, options)[1]
        options.epochs = max(1, int((60 * options.minutes - sum(seconds)) / seconds[-1]))
    model, _ = train_by_timm(images, labels, options)
    model.eval()
    with torch.inference_mode():
        guesses = torch.cat([model(part.to(memory_format=torch.channels_last)).argmax(1) for part in tests.split(256)])
    return float((guesses == truth).float().mean())


TRAINERS = {"keras": trained_by_keras, "timm": trained_by_timm}


def main() -> None:
    """Trains once and writes what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trainer", choices=TRAINERS)
    parser.add_argument("--images", required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--json", required=True)
    options = parser.parse_args()
    if (options.epochs is None) == (options.minutes is None) or (options.minutes and options.trainer != "timm"):
        parser.error("give --epochs N, or of timm --minutes M")
    with np.load(options.images) as file:
        arrays = {name: file[name] for name in ("x_train", "y_train", "x_test", "y_test")}
    start = time.monotonic()
    accuracy = TRAINERS[options.trainer](arrays, options)
    result = {
        "status": "complete",
        "seconds": time.monotonic() - start,
        "epochs": options.epochs,
        "metrics": {"test": {"accuracy": accuracy}},
    }
    with open(options.json, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
