"""What Keras computes with, chosen before Keras is imported (unit 15).

``KERAS_BACKEND`` names the backend, and Keras reads it once, at its first import: so this module comes before
``import keras``. Whatever else is imported from ``scratch`` brings it along. The standard set-up has PyTorch; where
TensorFlow is installed (the extra ``tensorflow``), ``KERAS_BACKEND=tensorflow`` runs the same code on it. What the
environment says already stays.
"""

import importlib.util
import os

SETTINGS = {
    "KERAS_BACKEND": "torch",
    "KERAS_HOME": os.devnull,  # Keras writes a settings file into its home; here it has none
    "TF_CPP_MIN_LOG_LEVEL": "3",  # TensorFlow tells of the machine at import
    "TF_ENABLE_ONEDNN_OPTS": "0",  # sums in an order of their own, and a notice
}
for _name, _value in SETTINGS.items():
    os.environ.setdefault(_name, _value)


def has_tensorflow() -> bool:
    """Whether TensorFlow is installed; it is not imported."""
    return importlib.util.find_spec("tensorflow") is not None
