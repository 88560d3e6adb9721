"""cnnport: CNNs from PyTorch to every runtime, as one small, verified ONNX file."""

from cnnport._version import __version__

__all__ = ["__version__"]
