"""A U-Net on a ResNet-18: which pixels of a noisy picture belong to an ellipse.

    python examples/segmentation.py [--epochs 4] [--seed 0]

The encoder is the network of the package that knows CIFAR-10, the decoder is Keras. Ronneberger et al. 2015, "U-Net:
Convolutional Networks for Biomedical Image Segmentation". Prints the intersection over union of both classes, beside
that of a logistic regression on the color of a pixel.
"""

import argparse

import keras
import numpy as np

import keras_resnet
from keras_resnet import preprocessing

SIDE_PX, TRAIN, TEST = 64, 600, 100


def pictures(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Returns pictures in [0, 255] and masks of 0 and 1: an ellipse whose texture is its only difference."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX]
    images, masks = rng.normal(128, 40, (count, SIDE_PX, SIDE_PX, 3)), np.zeros((count, SIDE_PX, SIDE_PX, 1))
    for image, mask in zip(images, masks, strict=True):
        (row, column), (height, width) = rng.uniform(16, 48, 2), rng.uniform(8, 20, 2)
        inside = ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1
        stripes = 40 * np.sign(np.sin((rows + columns) * rng.uniform(0.8, 1.2)))
        image += np.where(inside, stripes, 40 * np.sign(rng.normal(size=inside.shape)))[..., None]
        mask[inside] = 1
    return images.clip(0, 255).astype("float32"), masks.astype("float32")


def unet() -> keras.Model:
    """Returns pictures to logits of the mask, `(batch, 64, 64, 1)`."""
    encoder = keras_resnet.ResNet18(weights="cifar10", include_top=False, input_shape=(SIDE_PX, SIDE_PX, 3))
    record = preprocessing.for_model(encoder)
    maps = keras_resnet.features(encoder)  # strides 1, 2, 4 and 8
    image = keras.Input((SIDE_PX, SIDE_PX, 3))
    *skips, x = maps(record.normalization(image))
    for skip in reversed(skips):
        channels = skip.shape[-1]
        x = keras.layers.UpSampling2D(interpolation="bilinear")(x)
        x = keras.layers.Concatenate()([x, skip])
        for _ in range(2):
            x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
            x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(image, keras.layers.Conv2D(1, 1)(x))


def overlap(predicted: np.ndarray, masks: np.ndarray) -> float:
    """Returns the mean intersection over union of the ellipses and of what is around them."""
    metric = keras.metrics.MeanIoU(num_classes=2)
    metric.update_state(masks, predicted)
    return float(metric.result())


def main() -> None:
    """Trains, and prints a table."""
    from sklearn.linear_model import LogisticRegression

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    keras.utils.set_random_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    (images, masks), (others, truth) = pictures(TRAIN, rng), pictures(TEST, rng)
    model = unet()
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(1e-3, weight_decay=1e-4), loss)
    model.fit(images, masks, batch_size=16, epochs=options.epochs, verbose=2)
    found = overlap(model.predict(others, verbose=0) > 0, truth)
    linear = LogisticRegression().fit(images[:20].reshape(-1, 3), masks[:20].ravel())
    baseline = overlap(linear.predict(others.reshape(-1, 3)), truth.ravel())
    print("| network | mean IoU | compared with |\n| --- | ---: | --- |")
    print(f"| U-Net on ResNet-18 | {found:.3f} | logistic regression {baseline:.3f} |")


if __name__ == "__main__":
    main()
