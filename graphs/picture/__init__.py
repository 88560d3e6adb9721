"""ONNX of what stands around a network in a picture file: preprocessing before it, probabilities behind it."""

from cnnport.graphs.picture.joined import joined
from cnnport.graphs.picture.preparing import IMAGE, Layout, Mode, check_opset, preprocess_model
from cnnport.graphs.picture.scores import PROBABILITIES, TOP_INDICES, TOP_PROBABILITIES, scores_model

__all__ = [
    "IMAGE",
    "PROBABILITIES",
    "TOP_INDICES",
    "TOP_PROBABILITIES",
    "Layout",
    "Mode",
    "check_opset",
    "joined",
    "preprocess_model",
    "scores_model",
]
