"""The ResNet-20 of He et al. 2015 in PyTorch, on the images that ours was trained on: is a gap ours or the data's?

    .venv-peers/bin/python -m benchmarks.resnet20_torch --cifar FOLDER [--epochs 20] [--seeds 0 1]

FOLDER has train/CLASS/*.jpg and test/CLASS/*.jpg. Written as section 4.2 of the paper says and with nothing of this
package: L2 of 1e-4 on all weights inside the gradient, momentum 0.9, batches of 128, rate 0.1 divided by 10 after half
and three quarters of the steps, four pixels of padding, random crops and flips, the mean of the channels subtracted.
Ours: keras-resnet train --model resnet20 --recipe cifar-he2015 --epochs E --set data.validation_fraction=0.
"""

import argparse
import json
import pathlib
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

BATCH = 128


class Block(nn.Module):
    """Two convolutions of 3x3; the shortcut takes every second pixel and zeros for the new channels."""

    def __init__(self, inputs: int, channels: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)
        self.stride, self.added = stride, channels - inputs

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Returns the sum of both branches, rectified."""
        hidden = functional.relu(self.first_norm(self.first(pixels)))
        hidden = self.second_norm(self.second(hidden))
        shortcut = pixels[:, :, :: self.stride, :: self.stride]
        return functional.relu(hidden + functional.pad(shortcut, (0, 0, 0, 0, 0, self.added)))


def resnet20() -> nn.Module:
    """Returns the network with 269,722 parameters and He's initialization."""
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    channels = 16
    for stage in (16, 32, 64):
        for block in range(3):
            layers.append(Block(channels, stage, 2 if stage > 16 and block == 0 else 1))
            channels = stage
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def images(folder: pathlib.Path) -> tuple[torch.Tensor, torch.Tensor]:
    """The pixels `(images, 3, 32, 32)` in [0, 255] and the labels of a folder of one folder per class."""
    pixels, labels = [], []
    for label, name in enumerate(sorted(path.name for path in folder.iterdir())):
        for path in sorted((folder / name).iterdir()):
            pixels.append(np.asarray(Image.open(path).convert("RGB")))
            labels.append(label)
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float(), torch.tensor(labels)


def augmented(pixels: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Returns images padded by four pixels, cut at random and flipped in half of the cases."""
    padded = functional.pad(pixels, (4, 4, 4, 4))
    corners = torch.randint(0, 9, (len(pixels), 2), generator=random).tolist()
    flips = (torch.rand(len(pixels), generator=random) < 0.5).tolist()
    crops = [image[:, y : y + 32, x : x + 32] for image, (y, x) in zip(padded, corners, strict=True)]
    return torch.stack([crop.flip(-1) if flip else crop for crop, flip in zip(crops, flips, strict=True)])


def train(data: dict[str, tuple[torch.Tensor, torch.Tensor]], epochs: int, seed: int) -> list[dict[str, float]]:
    """Returns a row per epoch: accuracy while training, and on the test images."""
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    network = resnet20().to(memory_format=torch.channels_last)
    pixels, labels = data["train"]
    steps = len(pixels) // BATCH
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    milestones = [epochs * steps // 2, epochs * steps * 3 // 4]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.1)
    history = []
    for epoch in range(epochs):
        network.train()
        start, correct = time.monotonic(), 0
        order = torch.randperm(len(pixels), generator=random)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            inputs = augmented(pixels[chosen], random).contiguous(memory_format=torch.channels_last)
            outputs = network(inputs)
            optimizer.zero_grad()
            functional.cross_entropy(outputs, labels[chosen]).backward()
            optimizer.step()
            schedule.step()
            correct += int((outputs.argmax(1) == labels[chosen]).sum())
        network.eval()
        with torch.no_grad():
            test, truth = data["test"]
            outputs = torch.cat([network(part) for part in test.split(1000)])
        figures = {
            "seed": seed,
            "epoch": epoch + 1,
            "accuracy": correct / (steps * BATCH),
            "test_accuracy": float((outputs.argmax(1) == truth).float().mean()),
            "seconds": round(time.monotonic() - start, 1),
        }
        history.append(figures)
        print(json.dumps(figures), flush=True)
    return history


def main() -> None:
    """Trains a network for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", required=True, type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--json", type=pathlib.Path, default=pathlib.Path("resnet20_torch.json"))
    arguments = parser.parse_args()
    data = {split: images(arguments.cifar / split) for split in ("train", "test")}
    mean = data["train"][0].mean((0, 2, 3), keepdim=True)
    deviation = data["train"][0].std((0, 2, 3), keepdim=True)
    data = {split: ((pixels - mean) / deviation, labels) for split, (pixels, labels) in data.items()}
    history = [row for seed in arguments.seeds for row in train(data, arguments.epochs, seed)]
    arguments.json.write_text(json.dumps({"torch": torch.__version__, "history": history}, indent=1) + "\n")
    print("| seed | epochs | test accuracy |\n| ---: | ---: | ---: |")
    for row in history:
        if row["epoch"] == arguments.epochs:
            print(f"| {row['seed']} | {arguments.epochs} | {row['test_accuracy']:.4f} |")


if __name__ == "__main__":
    main()
