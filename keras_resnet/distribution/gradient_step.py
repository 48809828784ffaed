"""A training step in two parts: the gradients of a batch, which a subclass may find otherwise, and what follows."""

from typing import Any, NamedTuple

import keras


class Gradients(NamedTuple):
    """What a batch says.

    Attributes:
        slopes: the gradient of the scaled loss by each trainable variable.
        loss: of the batch.
        images: what the metrics get as the input.
        labels: of the batch.
        outputs: of the network.
        weights: of the examples; None where all count alike.
    """

    slopes: list[Any]
    loss: Any
    images: Any
    labels: Any
    outputs: Any
    weights: Any


class GradientStep:
    """Keras's training step on TensorFlow, for classes that stand before a model class."""

    def gradients_of(self: Any, data: Any) -> Gradients:
        """Returns the gradients of a batch; the network's moving averages and seeds move on.

        Args:
            data: as `train_step` gets it.
        """
        import tensorflow as tf

        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            outputs = self(images, training=True)
            loss = self.compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=weights, training=True)
            scaled = self.optimizer.scale_loss(loss)
        slopes = tape.gradient(scaled, [variable.value for variable in self.trainable_variables])
        return Gradients(slopes, loss, images, labels, outputs, weights)

    def train_step(self: Any, data: Any) -> Any:
        """Takes one step and returns the metrics of the whole batch."""
        import tensorflow as tf

        found = self.gradients_of(data)
        self.optimizer.apply_gradients(zip(found.slopes, self.trainable_variables, strict=True))
        self._loss_tracker.update_state(found.loss, sample_weight=tf.shape(found.labels)[0])
        return self.compute_metrics(found.images, found.labels, found.outputs, found.weights)


def has_plain_step(model_class: type[keras.Model]) -> bool:
    """Returns whether the training step of a class is Keras's, or one of those here.

    Args:
        model_class: `keras.Model`, or a subclass.
    """
    return model_class.train_step in (keras.Model.train_step, GradientStep.train_step)
