"""ct: continuous training and model serving, from a landed file to a served prediction and back."""

__version__ = "0.1.0"
