"""Training steps on the PyTorch and JAX backends of Keras against timm and a plain Flax network, in one run.

    python -m benchmarks.backends [--peers PYTHON] [--rounds 4] [--steps 3] [--only torch] [--json FILE]

The peers' interpreter is made by `python -m benchmarks.peers`. Every contestant runs the same network on a fixed batch
of random images, with SGD and momentum: Keras by `model.fit`, timm and Flax by the usual loops.
"""

from benchmarks.contest import Row, main

TORCH = ("keras_resnet_torch", "timm_eager", "timm_channels_last", "timm_compiled")
JAX = ("keras_resnet_jax", "flax")
SIZES = {
    "ResNet-50, 224 px": ("resnet50", "train", 224, 64, 16),
    "ResNet-18, 224 px": ("resnet18", "train", 224, 64, 16),
    "ResNet-18, 32 px": ("resnet18", "train", 32, 64, 64),
    "ResNet-18, 32 px, width 16": ("resnet18", "train", 32, 16, 64),
}
ROWS = [
    Row(f"{title}, {backend}", *size, names)
    for backend, names in (("torch", TORCH), ("jax", JAX))
    for title, size in SIZES.items()
]
QUICK = [Row("ResNet-18, 8 px, width 4, jax", "resnet18", "train", 8, 4, 2, JAX[:1])]

if __name__ == "__main__":
    main(__doc__, ROWS, QUICK)
