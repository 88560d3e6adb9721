"""The onnx package's own cases for backends through the graph passes: what operators mean, one by one.

Here are those of the operators that CNNs are made of, and whole small networks, through all passes together;
``python tests/fuzz_graphs.py --backend`` takes all of them, and each pass alone as well.
"""

from itertools import chain

import pytest

from cnnport.graphs import PASSES
from cnnport.graphs.passes import compatible
from fuzz import backend, faults
from fuzz.properties import Broken, Subject, hold

MODULES = (
    *("add", "averagepool", "batch_normalization", "clip", "concat", "constant", "constantofshape", "conv"),
    *(
        "convtranspose",
        "depthtospace",
        "div",
        "dropout",
        "elu",
        "expand",
        "flatten",
        "gather",
        "gelu",
        "gemm",
    ),
    *(
        "globalaveragepool",
        "globalmaxpool",
        "groupnormalization",
        "hardsigmoid",
        "hardswish",
        "identity",
        "if_",
    ),
    *("instance_normalization", "leakyrelu", "loop", "lppool", "lrn", "matmul", "max"),
    *("maxpool", "min", "mish", "mul", "neg", "pad", "pow", "prelu", "reducemean", "relu", "reshape"),
    *("shape", "sigmoid", "slice", "softmax", "softplus", "split", "sqrt", "squeeze", "sub", "sum", "swish"),
    *("tanh", "tile", "transpose", "unsqueeze", "upsample", "where"),
)


def _variants(cases):
    return chain.from_iterable((*backend.variants(case), *backend.neighbours(case)) for case in cases)


def _found(cases, passes):
    """What does not hold, and how many graphs were rewritten and compared."""
    wrong, compared = [], 0
    for case in cases:
        subject = Subject(case.model, [] if case.feeds is None else [case.feeds])
        try:
            rewrites = hold(subject, passes)
        except Broken as broken:
            wrong.append(f"{case.name}: {broken}")
        else:
            compared += any(rewrites.values()) and bool(subject.feeds) and subject.outputs is not None
    return wrong, compared


def test_operators():
    wrong, compared = _found(_variants(backend.from_nodes(MODULES)), compatible(PASSES))
    assert not wrong
    assert compared > 50


def test_small_networks():
    wrong, _ = _found(_variants(backend.from_files()), compatible(PASSES))
    assert not wrong


@pytest.mark.parametrize(
    "fault", [faults.ignores_epsilon, faults.swaps_channels], ids=lambda each: each.__name__
)
def test_a_wrong_pass_is_found(fault):
    wrong, _ = _found(_variants(backend.from_nodes(["batch_normalization", "conv", "relu"])), [fault])
    assert wrong


def test_all_modules_are_there():
    assert set(MODULES) <= set(backend.node_modules())


def test_constants_have_the_inputs_numbers():
    (case,) = (each for each in backend.from_nodes(["add"]) if each.name == "test_add")
    names = {each.name: each for each in backend.variants(case)}
    assert list(names) == ["test_add", "test_add/weights", "test_add/constant"]
    assert [len(each.model.graph.input) for each in names.values()] == [2, 1, 0]
