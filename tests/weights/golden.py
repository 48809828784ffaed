"""Logits and features of timm's networks whose weights follow from the names of the tensors.

    python -m benchmarks.peers                                   # once: the environment of the peers
    .venv-peers/bin/python tests/weights/golden.py               # writes tests/weights/golden/*.npz

The weights are drawn by NumPy from the name of each tensor, so that a file holds names, shapes, an input and what timm
makes of it, and no weights.
"""

import json
import pathlib
import sys
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().with_name("golden")
# timm's name -> ours.
NETWORKS = {
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    "resnet50": "resnet50",
    "resnet50d": "resnet50",
    "seresnet50": "resnet50",
    "resnext50_32x4d": "resnext50_32x4d",
    "wide_resnet50_2": "wide_resnet50_2",
    "resnetrs50": "resnet_rs50",
    "ecaresnet50d": "ecaresnet50d",
}
CLASSES, CHANNELS_KEPT = 7, 8


def tensor_of(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns a tensor that matters: no statistic, scale or bias has a value that would hide a mistake."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
        return draw.uniform(0.5, 1.5, shape).astype("float32")
    if len(shape) == 1:
        return draw.normal(0, 0.1, shape).astype("float32")
    fan_in = float(np.prod(shape[1:]))
    return draw.normal(0, np.sqrt(1 / fan_in), shape).astype("float32")


def main() -> None:
    """Runs timm and writes the files."""
    sys.path.insert(0, str(FOLDER.parents[2]))
    from benchmarks.peers import without_torchvision

    without_torchvision()
    import timm
    import torch

    FOLDER.mkdir(exist_ok=True)
    images = np.random.default_rng(1).normal(size=(2, 41, 35, 3)).astype("float32")
    given = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
    for name in NETWORKS:
        model = timm.create_model(name, num_classes=CLASSES).eval()
        shapes = {key: list(value.shape) for key, value in model.state_dict().items() if value.ndim}
        tensors = {key: torch.from_numpy(tensor_of(key, tuple(shape))) for key, shape in shapes.items()}
        missing, unexpected = model.load_state_dict(tensors, strict=False)
        assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
        with torch.no_grad():
            logits = model(given).numpy()
            stages = model.forward_intermediates(given, intermediates_only=True)[1:]
        kept = {
            f"stage{number}": stage[:, :CHANNELS_KEPT].permute(0, 2, 3, 1).numpy()
            for number, stage in enumerate(stages, start=2)
        }
        about = json.dumps({"timm": timm.__version__, "torch": torch.__version__, "shapes": shapes})
        np.savez_compressed(FOLDER / f"{name}.npz", images=images, logits=logits, about=np.array(about), **kept)
        print(name, float(np.abs(logits).max()))


if __name__ == "__main__":
    main()
