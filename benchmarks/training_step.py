"""Training steps against keras.applications, keras-hub and timm, in one run.

    python -m benchmarks.training_step [--peers PYTHON] [--rounds 4] [--steps 3] [--json FILE]

The peers' interpreter is made by `python -m benchmarks.peers`. Every contestant runs the same network on a fixed batch
of random images, with SGD and momentum: Keras by `model.fit`, timm by the usual loop.
"""

from benchmarks.contest import Row, main

OURS = ("keras_resnet", "keras_resnet_stock")
TIMM = ("timm_eager", "timm_channels_last", "timm_compiled")
ROWS = [
    Row("ResNet-50, 224 px", "resnet50", "train", 224, 64, 16, (*OURS, "keras_applications", "keras_hub", *TIMM)),
    Row("ResNet-18, 224 px", "resnet18", "train", 224, 64, 16, (*OURS, "keras_hub", *TIMM)),
    Row("ResNet-18, 32 px", "resnet18", "train", 32, 64, 64, (*OURS, *TIMM)),
    Row("ResNet-18, 32 px, width 16", "resnet18", "train", 32, 16, 64, (*OURS, *TIMM)),
    Row("ResNet-18, 8 px", "resnet18", "train", 8, 64, 64, (*OURS, *TIMM)),
]
QUICK = [Row("ResNet-18, 8 px, width 4", "resnet18", "train", 8, 4, 2, OURS)]

if __name__ == "__main__":
    main(__doc__, ROWS, QUICK)
