"""How well the novelty of `similar` tells pictures of another kind from those of CIFAR-10.

    python -m benchmarks.novelty --data-dir DIR [--json FILE]

DIR is where TFDS finds its prepared CIFAR-10. Prints one table of areas under ROC, beside those of 1 - the highest
probability.
"""

import argparse
import json
import pathlib
import tempfile
import time

import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.metrics import roc_auc_score

from keras_resnet import data, evaluation

NETWORK, EXAMPLES, SIDE_PX = "resnet18:cifar10", 2000, 32


def others() -> dict[str, np.ndarray]:
    """Returns pictures of other kinds, float32 in [0, 255]."""
    rng = np.random.default_rng(0)
    digits = np.kron(load_digits().images, np.ones((1, 4, 4)))[..., None].repeat(3, axis=-1) * 255 / 16
    photographs, crops = load_sample_images().images, []
    for number in range(EXAMPLES):
        picture = photographs[number % 2]
        top, left = (rng.integers(0, side - SIDE_PX) for side in picture.shape[:2])
        crops.append(picture[top : top + SIDE_PX, left : left + SIDE_PX])
    noise = rng.uniform(0, 255, (EXAMPLES, SIDE_PX, SIDE_PX, 3))
    return {"digits": digits, "crops of two photographs": np.stack(crops), "uniform noise": noise}


def scores_of(index: evaluation.Embeddings, pictures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the novelty of pictures, and 1 - their highest probability."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "pictures.npy"
        np.save(path, pictures.astype("float32"))
        novelty = [answer["novelty"] for answer in evaluation.similar(index, path, top=1)]
        answers = evaluation.predict(NETWORK, path, top=1)
    return np.array(novelty), np.array([1 - answer["classes"][0]["probability"] for answer in answers])


def main() -> None:
    """Prints the table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    dataset = data.load("tfds:cifar10", data_dir=options.data_dir, validation_fraction=0)
    start = time.perf_counter()
    index = evaluation.embed(NETWORK, dataset, split="train")
    seconds = time.perf_counter() - start
    own = scores_of(index, dataset.arrays("test", EXAMPLES)[0])
    rows = {}
    print(f"index of {len(index.names):,} pictures in {seconds:.0f} s\n{'pictures':<28}{'novelty':>9}{'1 - p':>9}")
    for name, pictures in others().items():
        found = scores_of(index, pictures)
        is_other = np.r_[np.zeros(len(own[0])), np.ones(len(pictures))]
        rows[name] = [roc_auc_score(is_other, np.r_[mine, theirs]) for mine, theirs in zip(own, found, strict=True)]
        print(f"{name:<28}{rows[name][0]:>9.3f}{rows[name][1]:>9.3f}")
    if options.json:
        options.json.write_text(json.dumps({"seconds": seconds, "novelty and 1 - p": rows}, indent=1), "utf-8")


if __name__ == "__main__":
    main()
