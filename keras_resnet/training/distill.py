"""Distillation: the section of a recipe, the teacher, and the term that it adds to the loss of a step."""

import dataclasses
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras

from keras_resnet import files, models, preprocessing
from keras_resnet.distribution.step import StepPart
from keras_resnet.errors import BadValue
from keras_resnet.preprocessing import InputRecord
from keras_resnet.tasks.outputs import SMALLEST, last_activation
from keras_resnet.training import fields
from keras_resnet.weights.files import load_model_file
from keras_resnet.weights.sources import MODELS_OF_FOLDERS


@dataclasses.dataclass(frozen=True)
class Teacher:
    """A trained model whose answers another one learns.

    Attributes:
        model: from its own pixels to its outputs.
        config: what it takes and gives.
        source: the tag, or the absolute path, by which it is opened again.
        sha256: of its file.
    """

    model: keras.Model
    config: InputRecord
    source: str
    sha256: str

    @classmethod
    def open(cls, source: str) -> "Teacher":
        """Opens a run folder, the folder of a cross-validation, a `.keras` file, or NAME:TAG of weights."""
        path = pathlib.Path(source).expanduser()
        name, colon, tag = source.partition(":")
        if colon and name in models.VARIANTS and not path.exists():
            model, sha256 = models.pretrained_model(name, tag), models.Pretrained.of(name, tag).sha256
        else:
            file = next((path / name for name in MODELS_OF_FOLDERS if (path / name).is_file()), path)
            if not file.is_file():
                raise BadValue(
                    f"distill.teacher={source!r} holds no model. Allowed are a run folder, the folder of a "
                    "cross-validation, a .keras file and NAME:TAG of weights, such as resnet18:cifar10. Pass one."
                )
            model, source = models.with_normalization(load_model_file(file)), os.path.abspath(path)
            sha256 = files.sha256_of(file)
        model.trainable = False
        return cls(model, preprocessing.for_model(model), source, sha256)

    def check(self, record: InputRecord, outputs: int, channels: int) -> None:
        """Raises ValueError where the student has other outputs or takes other examples, which cannot be converted."""
        own, shape = self.config, self.model.input_shape[1:]
        wrong = ""
        if own.activation != record.activation:
            wrong = f"gives {own.activation or 'values'}, and the loss of the student {record.activation or 'values'}"
        elif shape[-1] not in (None, channels):
            wrong = f"takes {shape[-1]} channels, and the data have {channels}"
        elif own.channel_order != record.channel_order:
            wrong = f"takes channels in the order {own.channel_order!r}, and the data have {record.channel_order!r}"
        elif own.pixel_range != record.pixel_range and None in (own.pixel_range, record.pixel_range):
            wrong = f"takes pixels in {own.pixel_range}, and the data have {record.pixel_range}"
        elif missing := [name for name in record.class_names if own.class_names and name not in own.class_names]:
            wrong = f"does not know the classes {missing}"
        elif outputs == 1 and own.class_names and own.class_names != record.class_names:
            wrong = f"has the classes {list(own.class_names)}, and the data {list(record.class_names)}"
        elif not own.class_names and self.model.output_shape[-1] != outputs:
            wrong = f"has {self.model.output_shape[-1]} outputs, and the student {outputs}"
        if wrong:
            raise BadValue(
                f"distill.teacher={self.source!r} {wrong}. They must agree. Choose another teacher, or train one on "
                "these data."
            )

    def convert(self, images: Any, record: InputRecord) -> Any:
        """Returns the images of a student as the teacher takes them: its range of pixels, and its size."""
        images = keras.ops.cast(images, "float32")
        if self.config.pixel_range != record.pixel_range:
            images = self.config.from_bytes(record.to_bytes(images))
        size = self.model.input_shape[1:-1]
        if None not in size and tuple(images.shape[1:-1]) != tuple(size):
            if len(size) != 2:
                raise BadValue(
                    f"distill.teacher={self.source!r} takes examples of {size}, and the student of "
                    f"{tuple(images.shape[1:-1])}. Only pictures are resized. Train both on examples of one size."
                )
            images = keras.ops.image.resize(images, size, antialias=True, data_format="channels_last")
        return images

    def logits(self, outputs: Any, class_names: Sequence[str]) -> Any:
        """Returns the logits that outputs stand for, or values, in the order of the student's classes."""
        outputs = keras.ops.cast(outputs, "float32")
        activation = last_activation(self.model)
        if activation == "softmax":
            outputs = keras.ops.log(keras.ops.maximum(outputs, SMALLEST))
        elif activation == "sigmoid":
            yes, no = (keras.ops.log(keras.ops.maximum(part, SMALLEST)) for part in (outputs, 1 - outputs))
            outputs = yes - no
        own = self.config.class_names
        if not own or len(own) != outputs.shape[-1] or tuple(class_names) == own:
            return outputs
        return keras.ops.take(outputs, [own.index(name) for name in class_names], axis=-1)


def divergence(teacher: Any, student: Any, activation: str | None, temperature: float = 1.0) -> Any:
    """Returns how far a student's logits are from its teacher's, in nats, per example.

    Of a softmax it is the Kullback-Leibler divergence of the student's probabilities from the teacher's, of sigmoids
    the mean of those of the classes, both times the square of the temperature, by which gradients keep their size
    (Hinton et al. 2015, section 2.1); of values it is the mean squared error.

    Args:
        teacher: `(batch, outputs)`.
        student: `(batch, outputs)`.
        activation: "softmax", "sigmoid", or None for values.
        temperature: by which the logits of both are divided, > 0.
    """
    ops = keras.ops
    student = ops.cast(student, "float32")
    if activation is None:
        return ops.mean(ops.square(student - teacher), axis=-1)
    teacher, student = teacher / temperature, student / temperature
    if activation == "softmax":
        logs, own = ops.log_softmax(teacher, axis=-1), ops.log_softmax(student, axis=-1)
        return temperature**2 * ops.sum(ops.exp(logs) * (logs - own), axis=-1)
    terms = [
        ops.exp(ops.log_sigmoid(sign * teacher)) * (ops.log_sigmoid(sign * teacher) - ops.log_sigmoid(sign * student))
        for sign in (1, -1)
    ]
    return temperature**2 * ops.mean(terms[0] + terms[1], axis=-1)


def attention_distance(teacher: Sequence[Any], student: Sequence[Any]) -> Any:
    """Returns the mean over pairs of feature maps of the squared distance of their attention maps, per example.

    An attention map is the mean of the squares over the channels, divided by its norm, so that the two networks may
    have other widths. Where the teacher's has another size, it is resized.

    Source:
        Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", equation 2.
    """
    ops = keras.ops
    distances = []
    for maps in zip(teacher, student, strict=True):
        of_teacher, of_student = (ops.mean(ops.square(ops.cast(part, "float32")), axis=-1) for part in maps)
        size = of_student.shape[1:]
        if of_teacher.shape[1:] != size:
            of_teacher = ops.image.resize(of_teacher[..., None], size, data_format="channels_last")[..., 0]
        rows = [ops.reshape(part, (ops.shape(part)[0], -1)) for part in (of_teacher, of_student)]
        rows = [part / ops.maximum(ops.norm(part, axis=-1, keepdims=True), 1e-12) for part in rows]
        distances.append(ops.sum(ops.square(rows[0] - rows[1]), axis=-1))
    return sum(distances) / len(distances)


LOGITS, FEATURES = "logits", "features"
_HAS_TEACHER: tuple[str, Callable[[Any], bool]] = ("distill.teacher", lambda recipe: bool(recipe.distill.teacher))


@dataclasses.dataclass(frozen=True)
class Distill(fields.Section):
    """A teacher, whose answers to the very images of a step, augmented and mixed, are learned beside the labels.

    `teacher` is a run folder, the folder of a cross-validation, a `.keras` file or NAME:TAG of weights; empty for none.
    Classes are matched by name. The loss is `alpha` times the distance to the teacher plus `1 - alpha` times that of
    the labels; penalties of weights come on top. `kind="logits"` takes the divergence of the probabilities, both
    softened by `temperature`, or the squared error of values; `kind="features"` that of the attention maps of the four
    stages. The losses of the validation split are those of the labels alone.

    Hinton et al. 2015, "Distilling the Knowledge in a Neural Network"; Beyer et al. 2022, "Knowledge distillation: A
    good teacher is patient and consistent", who take no labels (alpha 1), strong mixing and very long schedules.
    """

    title = "distill"
    needs = {name: _HAS_TEACHER for name in ("kind", "alpha")} | {
        "temperature": (
            "distill.teacher and kind='logits'",
            lambda recipe: bool(recipe.distill.teacher) and recipe.distill.kind == LOGITS,
        )
    }
    teacher: str = fields.text("")
    kind: str = fields.choice(LOGITS, {LOGITS: LOGITS, FEATURES: FEATURES})
    temperature: float = fields.number(1.0, open_below=True, scale="log")
    alpha: float = fields.number(1.0, maximum=1.0, open_below=True)

    def open(self, record: InputRecord, outputs: int, channels: int) -> Teacher | None:
        """Returns the teacher, checked against what the student takes and gives; None without one."""
        if not self.teacher:
            return None
        if self.kind == FEATURES and self.alpha == 1.0:
            raise BadValue(
                "distill.alpha=1 was given with distill.kind='features', which teaches the last layer nothing. Allowed "
                "is a share below 1, such as 0.5. Set it."
            )
        teacher = Teacher.open(self.teacher)
        teacher.check(record, outputs, channels)
        return teacher

    def step_parts(self, experiment: Any) -> list[StepPart]:
        """Returns the part that adds the distance to the teacher to the loss."""
        return [] if experiment.teacher is None else [StepPart(_Distilled(self, experiment), {})]


class MeanDistance(keras.losses.Loss):
    """The mean over the batch, weighted, and divided among devices as Keras does it with every loss."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Returns the distances."""
        return y_pred


class _Distilled:
    """Makes subclasses of model classes whose loss has the distance to a teacher in it."""

    def __init__(self, section: Distill, experiment: Any) -> None:
        self.section, self.teacher, self.record = section, experiment.teacher, experiment.record
        self.class_names = experiment.dataset.class_names
        targets = experiment.facts.targets
        self.scale = None if targets is None else targets[1]
        # The teacher is no attribute of a Keras model, which would save and train it.
        self.network = self.teacher.model if section.kind == LOGITS else models.features(self.teacher.model)

    def distance(self, images: Any, outputs: Any, student_maps: Sequence[Any]) -> Any:
        """Returns the distance of each example."""
        answers = self.network(self.teacher.convert(images, self.record), training=False)
        answers = keras.tree.map_structure(keras.ops.stop_gradient, answers)
        if self.section.kind == FEATURES:
            return attention_distance(answers, student_maps)
        logits, activation = self.teacher.logits(answers, self.class_names), self.record.activation
        if self.scale is not None:
            scale = keras.ops.convert_to_tensor(self.scale, "float32")
            logits, outputs = logits / scale, keras.ops.cast(outputs, "float32") / scale
        return divergence(logits, outputs, activation, self.section.temperature)

    def __call__(self, model_class: type[keras.Model]) -> type[keras.Model]:
        """Returns the subclass."""
        part, alpha, maps = self, self.section.alpha, {}

        class Distilled(model_class):
            def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
                """Returns the outputs; in training it keeps the feature maps, where they are compared."""
                if not training or part.section.kind == LOGITS:
                    return super().call(inputs, training=training, mask=mask)
                if "function" not in maps:
                    stages = models.features(self).outputs
                    maps["function"] = keras.Function(self.input, [*self.outputs, *stages])
                outputs, *maps["student"] = maps["function"](inputs)
                return outputs

            def compute_loss(
                self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: Any = True
            ) -> Any:
                """Returns the loss of the labels, and in training that of the teacher."""
                loss = super().compute_loss(x, y, y_pred, sample_weight, training)
                if not training:
                    return loss
                distance = part.distance(x, y_pred, maps.get("student", ()))
                taught = alpha * MeanDistance()(distance, distance, sample_weight)
                of_labels = self.loss(y, y_pred, sample_weight)
                taught = taught + (loss - of_labels) if self.losses else taught
                return taught if alpha == 1.0 else taught + (1 - alpha) * of_labels

        return Distilled
