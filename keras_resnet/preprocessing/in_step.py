"""Models whose training step changes each batch at random before the network sees it, on the accelerator."""

import functools
from typing import Any

import keras

from keras_resnet.preprocessing.streams import Changes


@functools.cache
def in_step(model_class: type[keras.Model]) -> type[keras.Model]:
    """Returns a subclass of a model class whose training step changes each batch first.

    The pipeline then delivers plain batches, and the device that trains has the work of changing them; the changes are
    those that the pipeline would have made, from the same seed and step. Set `changes`, a `Changes`, before `fit`;
    `next_step`, a weight, counts the batches. Works on every Keras backend. To save, take the network alone:
    `keras.Model(model.inputs, model.outputs)`.

    Args:
        model_class: `keras.Model`, or a subclass with a `train_step` of its own.

    Returns:
        A class with the constructor of `model_class`.

    Example:
        >>> import keras
        >>> from keras_resnet import ResNet18, preprocessing
        >>> network = ResNet18(input_shape=(8, 8, 1), stem="small", width=4, classes=10)
        >>> flip = preprocessing.augmentation(flip=True)
        >>> model = preprocessing.in_step(keras.Model)(network.inputs, network.outputs)
        >>> model.changes = preprocessing.Changes({"flip": lambda x, y, seed: (flip.apply(x, seed), y)}, seed=0)
        >>> model.compile("sgd", "sparse_categorical_crossentropy")
        >>> _ = model.fit(keras.ops.zeros((4, 8, 8, 1)), keras.ops.zeros(4), batch_size=2, verbose=0)
        >>> int(model.next_step)
        2
    """

    class ChangedInStep(model_class):
        changes: Changes | None = None

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self.next_step = self.add_weight(
                shape=(), initializer="zeros", dtype="int32", trainable=False, name="next_step"
            )

        def train_step(self, *arguments: Any) -> Any:
            *state, data = arguments
            images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
            if state:
                # JAX: variables come and go as values, in (trainable, non-trainable, optimizer, metrics).
                trainable, others, *rest = state[0]
                place = next(i for i, v in enumerate(self.non_trainable_variables) if v is self.next_step)
                others = list(others)
                step, others[place] = others[place], others[place] + 1
                state = [(trainable, others, *rest)]
            else:
                step = self.next_step + 0  # a copy: the variable itself would be read again after the assignment
                self.next_step.assign(step + 1)
            if self.changes is not None:
                images, labels = self.changes(step, images, labels)
            return super().train_step(*state, keras.utils.pack_x_y_sample_weight(images, labels, weights))

    return ChangedInStep
