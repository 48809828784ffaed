"""Sharpness-aware minimisation: each step takes the gradient from where the loss nearby is higher."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_resnet")
class SharpnessAware(keras.Model):
    """A functional model whose training step climbs by `radius` along the gradient, and takes the gradient there.

    It costs a second forward and backward pass. Metrics and moving averages are those of the first pass, weights are
    put back to the very bits they had. For TensorFlow.

    Attributes:
        radius: of the climb, in the norm of all weights together.

    Source:
        Foret et al. 2021, "Sharpness-Aware Minimization for Efficiently Improving Generalization", algorithm 1.
    """

    radius: float = 0.05

    def train_step(self, data: Any) -> Any:
        """Takes one step and returns the metrics."""
        import tensorflow as tf

        images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
        variables = [variable.value for variable in self.trainable_variables]

        def passed() -> tuple[Any, Any, Any]:
            with tf.GradientTape() as tape:
                outputs = self(images, training=True)
                loss = self.compute_loss(x=images, y=labels, y_pred=outputs, sample_weight=weights, training=True)
                scaled = self.optimizer.scale_loss(loss)
            return loss, outputs, tape.gradient(scaled, variables)

        loss, outputs, slopes = passed()
        averages = [variable.value for variable in self.non_trainable_variables]
        kept = [tf.identity(variable) for variable in (*variables, *averages)]
        # The scale of 16-bit losses cancels: the climb has the length of the radius whatever the slopes' unit.
        length = self.radius / tf.maximum(tf.linalg.global_norm(slopes), 1e-12)
        for variable, slope in zip(variables, slopes, strict=True):
            variable.assign_add(tf.cast(slope * length, variable.dtype))
        _, _, slopes = passed()
        for variable, value in zip((*variables, *averages), kept, strict=True):
            variable.assign(value)
        self.optimizer.apply_gradients(zip(slopes, self.trainable_variables, strict=True))
        self._loss_tracker.update_state(loss, sample_weight=tf.shape(images)[0])
        return self.compute_metrics(images, labels, outputs, weights)
