"""What a Keras model is trained with: a loss that leaves padding out, the Noam schedule, one step by hand (unit 15).

Symbols: B batch, T target length, V vocabulary, D model width.
"""

from contextlib import nullcontext
from typing import Any

import keras
from keras import ops

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


class MaskedLoss(keras.losses.Loss):
    """Cross-entropy of the next token, averaged over the labels that are no padding.

    Source: Vaswani et al., 2017, section 5.4 (label smoothing); Szegedy et al., "Rethinking the Inception
        Architecture", 2016,
    section 7.
    """

    def __init__(self, pad: int = 0, smoothing: float = 0.0, name: str = "masked_loss", **kwargs: Any):
        """Keep the settings.

        Args:
            pad: the label that does not count.
            smoothing: ε, the share of each target's probability that is spread over all V tokens alike.
            name: how progress bars call it.
            kwargs: what every Keras loss takes.
        """
        super().__init__(name=name, **kwargs)
        self.pad, self.smoothing = pad, smoothing

    def call(self, y_true, y_pred):
        """Return one number: the mean over all labels but padding of −Σ target · log softmax(logits).

        The target of a label is 1 − ε at the label, and ε / V more everywhere. Where every label is padding, the
        loss is 0.

        Args:
            y_true: (B, T), labels, which may have come as floats.
            y_pred: (B, T, V), logits.
        """
        labels = ops.cast(y_true, "int32")
        log_p = ops.log_softmax(y_pred, axis=-1)  # (B, T, V)
        of_label = ops.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]  # (B, T, V) -> (B, T)
        losses = -(1 - self.smoothing) * of_label - self.smoothing * ops.mean(log_p, axis=-1)
        real = ops.cast(labels != self.pad, losses.dtype)  # (B, T)
        return ops.sum(losses * real) / ops.maximum(ops.sum(real), 1)

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this loss again."""
        return {**super().get_config(), "pad": self.pad, "smoothing": self.smoothing}


class NoamSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate that rises for some steps and then falls with the root of the step.

    Source: Vaswani et al., 2017, section 5.3, equation 3.
    """

    def __init__(self, d_model: int, warmup: int = 4000, factor: float = 1.0):
        """Keep the settings.

        Args:
            d_model: D.
            warmup: W, the step at which the rate is highest.
            factor: what the paper's rate is multiplied by.
        """
        super().__init__()
        self.d_model, self.warmup, self.factor = d_model, warmup, factor

    def __call__(self, step):
        """Return factor · D^(−1/2) · min(n^(−1/2), n · W^(−3/2)) with n = step + 1, as a tensor of float32.

        Args:
            step: the optimiser's counter, a tensor of whole numbers or a plain number. Keras begins at 0, the paper
                at 1.
        """
        number = ops.cast(step, "float32") + 1
        rate = ops.minimum(number**-0.5, number * self.warmup**-1.5)
        return self.factor * self.d_model**-0.5 * rate

    def get_config(self) -> dict[str, Any]:
        """Return what ``__init__`` needs to make this schedule again."""
        return {"d_model": self.d_model, "warmup": self.warmup, "factor": self.factor}


def train_step(model, optimizer, loss, inputs, targets):
    """Take one step of the optimiser down the slope of a batch's loss.

    What is minimised is ``loss(targets, outputs)``, the outputs computed in training mode, plus everything that the
    model's layers add, ``model.losses``. Only ``model.trainable_variables`` move. Calls do not depend on earlier
    ones.

    The gradients are the business of the backend: under TensorFlow a ``tf.GradientTape`` records, under PyTorch
    ``backward`` leaves them at each variable's ``value.grad``. It suffices to serve the backend that you work with.

    Args:
        model: a Keras model, or layer, that is called with the inputs.
        optimizer: a Keras optimiser.
        loss: called as ``loss(targets, outputs)``.
        inputs: one array or tensor, or a tuple of them.
        targets: an array or a tensor.

    Returns:
        What was minimised, at the weights before the step: one number, in a tensor.
    """
    variables = model.trainable_variables
    recorded = keras.backend.backend() == "tensorflow"
    with tf.GradientTape() if recorded else nullcontext() as tape:
        total = loss(targets, model(inputs, training=True)) + sum(model.losses)
    if recorded:
        gradients = tape.gradient(total, variables)
    else:
        model.zero_grad()
        total.backward()
        gradients = [variable.value.grad for variable in variables]
    optimizer.apply(gradients, variables)
    return total


# By these names a saved model finds its loss and its schedule when it is loaded.
for _part in (MaskedLoss, NoamSchedule):
    keras.saving.register_keras_serializable("scratch")(_part)
