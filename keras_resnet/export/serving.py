"""What is served: a trained model with its preprocessing, as TensorFlow functions."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_resnet.data.images.decoding import decode, has_16_bits
from keras_resnet.data.images.reading import LUMINANCE
from keras_resnet.data.images.resizing import resize_for_evaluation
from keras_resnet.models.fusion import fuse
from keras_resnet.models.inference import inference_function
from keras_resnet.models.outputs import last_activation
from keras_resnet.preprocessing import InputRecord


def _grey(image: Any, is_deep: Any) -> Any:
    grey = tf.tensordot(tf.cast(image, tf.float64), tf.constant(LUMINANCE), axes=1)
    # As `read_for_network` does: luminance of 8 bits is rounded, that of 16 keeps its fractions.
    return tf.cast(tf.where(is_deep, grey, tf.round(grey)), tf.float32)


# Order of the record's channels -> from float32 RGB in [0, 255], and whether it has 16 bits, to it.
CONVERSIONS: dict[str, Callable[[Any, Any], Any]] = {
    "rgb": lambda image, is_deep: image,
    "bgr": lambda image, is_deep: image[..., ::-1],
    "grey": _grey,
}


class Served(tf.Module):
    """A model as it is served: images in [0, 255] to probabilities, or to numbers for a regression.

    Args:
        model: trained here; its batch norms are folded into its convolutions where they can be.
        record: what it takes.
        folder: where the files that travel along are written.
        facts: what they say, beside the class names.
    """

    def __init__(self, model: keras.Model, record: InputRecord, folder: pathlib.Path, facts: dict[str, Any]) -> None:
        super().__init__(name="served")
        self.record = record
        self.is_regression = not record.class_names and "class_names" not in record.assumed
        outputs = model.output_shape[-1]
        self.names = record.class_names or tuple(str(index) for index in range(2 if outputs == 1 else outputs))
        self.shape = tuple(model.input_shape[1:])
        self.activation = last_activation(model) or "linear"
        network = fuse(model)
        head = [layer.name for layer in network.layers if layer.name == "head_pool"]
        embedding = network.get_layer(head[0]).output if head else network.output
        # Constants, which oneDNN likes; and Keras's own tracking would save functions that run in training mode.
        self.network = inference_function(keras.Model(network.input, [network.output, embedding]))
        self.assets = [tf.saved_model.Asset(str(path)) for path in self._assets(folder, facts)]

    def _assets(self, folder: pathlib.Path, facts: dict[str, Any]) -> list[pathlib.Path]:
        names, about = folder / "class_names.txt", folder / "keras_resnet.json"
        names.write_text("".join(f"{name}\n" for name in self.names if not self.is_regression), encoding="utf-8")
        about.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return [names, about]

    def answer(self, images: Any) -> dict[str, Any]:
        """Returns what a signature answers for float32 images of the model's size."""
        outputs = self.network(images)[0]
        if self.is_regression:
            return {"values": tf.identity(outputs, name="values")}
        if self.activation == "linear":
            if outputs.shape[-1] == 1:
                positive = tf.sigmoid(outputs)
                return {"probabilities": tf.concat([1 - positive, positive], axis=-1, name="probabilities")}
            return {"probabilities": tf.nn.softmax(outputs, name="probabilities")}
        if outputs.shape[-1] == 1:
            outputs = tf.concat([1 - outputs, outputs], axis=-1)
        return {"probabilities": tf.identity(outputs, name="probabilities")}

    def picture(self, encoded: Any) -> Any:
        """Returns one encoded picture as the network takes it, float32."""
        image = CONVERSIONS[self.record.channel_order](decode(encoded, is_deep=True), has_16_bits(encoded))
        fitted = resize_for_evaluation(
            image, self.record.image_size or 1, self.record.crop_fraction, self.record.interpolation
        )
        return tf.ensure_shape(tf.cast(fitted, tf.float32), self.shape)

    def main(self) -> Any:
        """Returns the function of `serving_default`, which the other formats hold alone."""
        spec = tf.TensorSpec((None, *self.shape), tf.float32, name="images")
        return tf.function(self.answer, input_signature=[spec])

    def signatures(self) -> dict[str, Any]:
        """Returns every function of a SavedModel, by the name of its signature."""
        spec = (None, *self.shape)

        def serve_uint8(images: Any) -> dict[str, Any]:
            return self.answer(tf.cast(images, tf.float32))

        def features(images: Any) -> dict[str, Any]:
            embedding = self.network(images)[1]
            return {"features": tf.identity(embedding, name="features")}

        def serve_bytes(encoded: Any) -> dict[str, Any]:
            images = tf.map_fn(self.picture, encoded, fn_output_signature=tf.TensorSpec(self.shape, tf.float32))
            answer = self.answer(images)
            if self.is_regression:
                return answer
            names = tf.constant(self.names)
            best = tf.gather(names, tf.argmax(answer["probabilities"], axis=-1))
            every = tf.tile(names[None], [tf.shape(encoded)[0], 1])
            return {**answer, "class": best, "class_names": every}

        found = {
            "serving_default": self.main(),
            "serve_uint8": tf.function(serve_uint8, input_signature=[tf.TensorSpec(spec, tf.uint8, name="images")]),
            "features": tf.function(features, input_signature=[tf.TensorSpec(spec, tf.float32, name="images")]),
        }
        if self.record.channel_order in CONVERSIONS and self.record.image_size is not None:
            encoded = tf.TensorSpec((None,), tf.string, name="encoded")
            found["serve_bytes"] = tf.function(serve_bytes, input_signature=[encoded])
        return found
