"""Operators that give other numbers each time they run."""

import onnx_ir as ir

from cnnport.graphs.values import constant

RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
"""Random operators of the default domain. Dropout is one too where it is in training mode."""


def is_random(node: ir.Node, opset: int) -> bool:
    """Whether a node of the default domain draws numbers, with a seed of its own or without."""
    return node.op_type in RANDOM or (node.op_type == "Dropout" and not is_inference_dropout(node, opset))


def is_inference_dropout(node: ir.Node, opset: int) -> bool:
    """Whether a Dropout lets everything through; from opset 7 on, where there is no other attribute for it."""
    if opset < 12 or len(node.inputs) < 3 or node.inputs[2] is None:
        return True
    training = constant(node.inputs[2])
    return training is not None and not training.numpy().any()
