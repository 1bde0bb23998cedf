"""As few lines as will do, for what is trained with."""

import keras
from keras import ops


class MaskedLoss(keras.losses.Loss):
    """Weights for each label, by PyTorch-like masking of a mean."""

    def __init__(self, pad=0, smoothing=0.0, name="masked_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.pad, self.smoothing = pad, smoothing

    def call(self, y_true, y_pred):
        y_true = ops.cast(y_true, "int32")
        weights = ops.where(y_true == self.pad, 0.0, 1.0)
        log_z = ops.logsumexp(y_pred, axis=-1)
        label = ops.sum(ops.one_hot(y_true, y_pred.shape[-1]) * (y_pred - log_z[..., None]), axis=-1)
        losses = (1 - self.smoothing) * -label + self.smoothing * (log_z - ops.mean(y_pred, axis=-1))
        return ops.sum(losses * weights) / (ops.sum(weights) + (ops.sum(weights) == 0))

    def get_config(self):
        return super().get_config() | {"pad": self.pad, "smoothing": self.smoothing}


class NoamSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """The smaller of two by one formula."""

    def __init__(self, d_model, warmup=4000, factor=1.0):
        self.d_model, self.warmup, self.factor = d_model, warmup, factor

    def __call__(self, step):
        n = ops.cast(step, "float32") + 1
        return self.factor / (self.d_model * ops.maximum(n, self.warmup**3 / n**2)) ** 0.5

    def get_config(self):
        return dict(vars(self))
