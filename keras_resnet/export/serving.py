"""What is served: a trained model with its preprocessing, as TensorFlow functions."""

import json
import pathlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.data.images.decoding import convert_channels, decode, exif_orientation, has_16_bits
from keras_resnet.data.images.resizing import resize_for_evaluation
from keras_resnet.models.fusion import fuse, inference_function
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks import CLASSIFICATION, MULTILABEL, TASKS
from keras_resnet.tasks.multilabel import thresholds_for
from keras_resnet.tasks.outputs import last_activation


class Served(tf.Module):
    """A model as it is served: images to probabilities, or to numbers for a regression.

    Args:
        model: trained here; its batch norms are folded into its convolutions where they can be.
        record: what it takes.
        folder: where the files that travel along are written.
        facts: what they say, beside the class names.
    """

    def __init__(self, model: keras.Model, record: InputRecord, folder: pathlib.Path, facts: dict[str, Any]) -> None:
        super().__init__(name="served")
        self.record = record
        self.has_classes = TASKS[record.task or CLASSIFICATION.name].has_classes
        outputs = model.output_shape[-1]
        self.names = record.names_for(2 if outputs == 1 and record.task != MULTILABEL.name else outputs)
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
        names.write_text("".join(f"{name}\n" for name in self.names if self.has_classes), encoding="utf-8")
        about.write_text(json.dumps(facts, indent=1), encoding="utf-8")
        return [names, about]

    @property
    def takes_files(self) -> bool:
        """Whether image files can be read for it: it takes pictures, and their size and range are known."""
        record = self.record
        return record.channel_order != "any" and record.pixel_range is not None and record.image_size is not None

    def about_record(self) -> dict[str, Any]:
        """Returns the record for people who read the file elsewhere: plain values, with a name for every class."""
        return {**self.record.to_dict(), "class_names": list(self.names) if self.has_classes else []}

    def answer(self, images: Any) -> dict[str, Any]:
        """Returns the outputs of a signature for float32 images of the model's size."""
        outputs = self.network(images)[0]
        if not self.has_classes:
            return {"values": tf.identity(outputs, name="values")}
        several = self.record.task == MULTILABEL.name
        is_sigmoid = outputs.shape[-1] == 1 or self.record.activation == "sigmoid"
        if self.activation == "linear":
            outputs = tf.sigmoid(outputs) if is_sigmoid else tf.nn.softmax(outputs)
        if several:  # each class by itself
            return {"probabilities": tf.identity(outputs, name="probabilities")}
        if outputs.shape[-1] == 1:
            outputs = tf.concat([1 - outputs, outputs], axis=-1)
        elif is_sigmoid:  # one of several classes: sigmoids are divided by their sum
            smallest = float(np.finfo("float32").tiny)
            outputs = outputs / tf.maximum(tf.reduce_sum(outputs, axis=-1, keepdims=True), smallest)
        return {"probabilities": tf.identity(outputs, name="probabilities")}

    def picture(self, encoded: Any) -> Any:
        """Returns one encoded picture as the network takes it, float32."""
        orientation = exif_orientation(encoded) if self.record.apply_exif else 1
        decoded = decode(encoded, orientation, is_deep=True)
        image = convert_channels(decoded, self.record.channel_order, has_16_bits(encoded))
        fitted = resize_for_evaluation(
            image, self.record.image_size or 1, self.record.crop_fraction, self.record.interpolation
        )
        return tf.ensure_shape(self.record.from_bytes(tf.cast(fitted, tf.float32)), self.shape)

    def main(self) -> Any:
        """Returns the function of `serving_default`, which the other formats hold alone."""
        spec = tf.TensorSpec((None, *self.shape), tf.float32, name="images")
        return tf.function(self.answer, input_signature=[spec])

    def signatures(self) -> dict[str, Any]:
        """Returns every function of a SavedModel, by the name of its signature."""
        spec = (None, *self.shape)

        def serve_uint8(images: Any) -> dict[str, Any]:
            images = tf.cast(images, tf.float32)
            return self.answer(images if self.record.pixel_range is None else self.record.from_bytes(images))

        def features(images: Any) -> dict[str, Any]:
            embedding = self.network(images)[1]
            return {"features": tf.identity(embedding, name="features")}

        def serve_bytes(encoded: Any) -> dict[str, Any]:
            images = tf.map_fn(self.picture, encoded, fn_output_signature=tf.TensorSpec(self.shape, tf.float32))
            answer = self.answer(images)
            if not self.has_classes:
                return answer
            names = tf.constant(self.names)
            if self.record.task == MULTILABEL.name:
                cuts = tf.constant(thresholds_for(self.record.thresholds, len(self.names)), tf.float32)
                every = tf.tile(names[None], [tf.shape(encoded)[0], 1])
                return {**answer, "has_class": answer["probabilities"] >= cuts, "class_names": every}
            best = tf.gather(names, tf.argmax(answer["probabilities"], axis=-1))
            every = tf.tile(names[None], [tf.shape(encoded)[0], 1])
            return {**answer, "class": best, "class_names": every}

        signatures = {
            "serving_default": self.main(),
            "serve_uint8": tf.function(serve_uint8, input_signature=[tf.TensorSpec(spec, tf.uint8, name="images")]),
            "features": tf.function(features, input_signature=[tf.TensorSpec(spec, tf.float32, name="images")]),
        }
        if self.takes_files:
            encoded = tf.TensorSpec((None,), tf.string, name="encoded")
            signatures["serve_bytes"] = tf.function(serve_bytes, input_signature=[encoded])
        return signatures
