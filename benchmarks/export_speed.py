"""Exported networks, each by its own runtime, against the exports of keras.applications and timm, in one run.

    python -m benchmarks.export_speed [--peers PYTHON] [--rounds 4] [--steps 10] [--json FILE]

Ours by `keras_resnet.export`, float32 and 8 bits; keras.applications' network by Keras's `model.export`, called by its
serving signature; timm's by PyTorch's ONNX exporter, run by ONNX Runtime. `keras_resnet` is the Keras model itself, by
`model.predict`. Images are in memory. The peers' interpreter is made by `python -m benchmarks.peers`.
"""

from benchmarks.contest import Row, main
from benchmarks.exports import OURS

PEERS = ("keras_resnet", "keras_applications_savedmodel", "timm_onnx")
ROWS = [
    Row(f"ResNet-{depth}, batch {batch}", f"resnet{depth}", "infer", 224, 64, batch, (*OURS, *peers))
    # keras.applications has no ResNet-18.
    for depth, peers in ((50, PEERS), (18, (PEERS[0], PEERS[2])))
    for batch in (1, 8)
]
QUICK = [Row("ResNet-18, 8 px, width 4", "resnet18", "infer", 8, 4, 2, tuple(OURS)[:3])]

if __name__ == "__main__":
    main(__doc__, ROWS, QUICK)
