"""Inference with ResNet-50 against keras.applications, keras-hub and timm, in one run.

    python -m benchmarks.inference [--peers PYTHON] [--rounds 4] [--steps 10] [--json FILE]

Keras by `model.predict` over the batches of a turn, `keras_resnet_function` by `models.inference_function`, timm in
inference mode. The peers' interpreter is made by `python -m benchmarks.peers`.
"""

from benchmarks.contest import Row, main

NAMES = (
    *("keras_resnet_function", "keras_resnet_fused", "keras_resnet", "keras_resnet_stock"),
    *("keras_applications", "keras_hub"),
    *("timm_eager", "timm_channels_last", "timm_compiled"),
)
ROWS = [Row(f"ResNet-50, batch {batch}", "resnet50", "infer", 224, 64, batch, NAMES) for batch in (1, 8)]
QUICK = [Row("ResNet-18, 8 px, width 4", "resnet18", "infer", 8, 4, 2, NAMES[:4])]

if __name__ == "__main__":
    main(__doc__, ROWS, QUICK)
