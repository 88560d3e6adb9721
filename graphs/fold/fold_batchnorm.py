"""BatchNormalization into its linear neighbours.

In inference a BatchNormalization is one affine map a channel (Ioffe and Szegedy, arXiv:1502.03167, section
3.1, and the operator's page on onnx.ai):

    y = gamma (x - mean) / sqrt(var + epsilon) + beta = s x + t,
    s = gamma / sqrt(var + epsilon),  t = beta - mean s.

``linear`` has the algebra by which a linear operator takes such a map in, ``channels`` the operators that a map
moves through, ``affine_walk`` the way from one to the other. The pass looks above the BN first, then below it.
Torch's exporter folds a BN that follows its convolution; what it leaves is the rest of this list.

It fires for a BN

1.  after Conv, grouped and depthwise too, with or without bias;
2.  after ConvTranspose, grouped too, with or without bias;
3.  after Gemm: transA, transB, alpha, beta, C missing or of any shape that broadcasts;
4.  after MatMul with a constant matrix on the right; with a shift it becomes a Gemm;
5.  after Add of a constant to any of these: the constant takes the shift;
6.  after another BN: the upper one becomes both;
7.  after Concat on the channel axis, if every branch takes its slice in, by any of these rules;
8.  across Identity, inference Dropout, GlobalAveragePool, ReduceMean over space, AveragePool that does not
    count padding, and Flatten, Reshape, Squeeze and Unsqueeze that keep the channel axis, up or down, to
    reach one of these;
9.  before Conv without padding, grouped and depthwise too, if everything that reads the BN takes it in;
10. before Gemm (transA = 0) and MatMul with a constant matrix on the right, under the same condition; also
    across a Flatten of N x C x H x W, where each channel's map is repeated H * W times;
11. with weights, bias or BN parameters that other nodes use too: the rewritten node gets its own, under a
    name that occurs nowhere in the model; the shared ones stay as they are;
12. before another BN; before a Split on the channel axis, if all that reads a part takes its slice in; before a
    Concat on the channel axis, if what reads that takes in a map that leaves the other branches as they are;
13. across MaxPool and GlobalMaxPool, up or down, if every s is positive;
14. without shift, t = 0: before a padded Conv and before ConvTranspose, after Mul or Div with a constant, across
    AveragePool that counts padding or has ceil_mode, and, if every s is positive, across Relu, LeakyRelu and PRelu;
15. across Transpose, and shape-only operators that keep the last axis, to a MatMul whose columns are the channels.

It must not fire

20. in training mode: ``training_mode`` = 1, outputs beyond the first, opsets before 7, ``spatial`` = 0;
21. if a BN parameter, weight or bias is not constant: computed, a graph input, or an initializer that is also
    a graph input and so may be overridden; with IR versions before 4 that is every initializer;
22. if what lies between BN and neighbour is used elsewhere, is a graph output or is captured by a subgraph;
23. if s or t is not finite, var + epsilon is not positive, or the folded numbers overflow or underflow;
24. if types are mixed, or other than float32, float16, float64 and bfloat16;
25. with t before a padded convolution: padding is 0, where the BN would have made t of it;
26. across what does not commute: activations; MaxPool if an s is 0 or negative; with t, AveragePool that counts
    padding or has ceil_mode;
27. across a Reshape or Flatten that mixes channels, or whose shapes the file does not give;
28. after a Concat on another axis, or with a branch that cannot take its slice in: what would be left is as
    many BNs as before; after a Split, whose other parts would have to be mapped as well; where two ways from the
    BN meet in one node;
29. after MatMul or Add of other than two dimensions, where axis 1 is not the axis of the matrix's columns;
30. with quantised weights: a DequantizeLinear between weight and convolution is not a constant;
31. for BNs within subgraphs and functions, which stay as they are; custom operators are no neighbours.
"""

import onnx_ir as ir

from cnnport.graphs import journal
from cnnport.graphs.affine import CannotFoldError
from cnnport.graphs.fold.affine_walk import Scope, apply, downward, upward
from cnnport.graphs.fold.linear import affine_of, is_batchnorm
from cnnport.graphs.splice import stand_in
from cnnport.graphs.values import drop_unused

__all__ = ["affine_of", "fold_batchnorm"]


def fold_batchnorm(model: ir.Model) -> int:
    """Fold BatchNormalization into neighbouring convolutions and matrix products.

    Args:
        model: Changed in place; only the main graph.

    Returns:
        The number of BatchNormalization nodes that are gone.
    """
    scope = Scope.of(model, "bn")
    gone = 0
    while scope is not None:
        stays: dict[ir.Node, str] = {}
        folded = sum(_fold(node, scope, stays) for node in [*filter(is_batchnorm, model.graph)])
        gone += folded
        if not folded:
            for node, reason in stays.items():
                journal.refused(node, reason)
            break
    return gone


def _fold(batchnorm: ir.Node, scope: Scope, stays: dict[ir.Node, str]) -> bool:
    x, y = batchnorm.inputs[0], batchnorm.outputs[0]
    assert x is not None
    try:
        affine = affine_of(batchnorm, scope.opset)
    except CannotFoldError as error:
        stays[batchnorm] = str(error)
        return False
    try:
        rewrites = upward(x, affine, scope)
    except CannotFoldError as above:
        try:
            rewrites = downward(y, affine, scope)
        except CannotFoldError as below:
            stays[batchnorm] = f"above, {above}; below, {below}"
            return False
        apply(rewrites, scope)
        y.replace_all_uses_with(x)
    else:
        apply(rewrites, scope)
        stand_in(x, y)
    parameters = [value for value in batchnorm.inputs[1:] if value]
    scope.graph.remove(batchnorm, safe=True)
    drop_unused(scope.graph, parameters)
    return True
