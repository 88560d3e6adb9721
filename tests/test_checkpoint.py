"""Reading checkpoint files of every kind and state, and loading them into a network."""

import argparse
import os
import pickle
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from cnnport.checkpoint import load_state, read_checkpoint
from cnnport.errors import WeightsError


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


@pytest.fixture
def state() -> dict[str, Tensor]:
    torch.manual_seed(7)
    return {
        name: torch.rand_like(value.float()).to(value.dtype) for name, value in small().state_dict().items()
    }


def assert_holds(module: nn.Module, state: dict[str, Tensor]) -> None:
    for name, value in module.state_dict().items():
        assert torch.equal(value, state[name]), name


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.bin", "a.ckpt", "a.pth.tar", "a.safetensors", "a"])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_every_format_is_read_by_content(
    tmp_path: Path, state: dict[str, Tensor], name: str, kind: str
) -> None:
    path = tmp_path / name
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    module = small()
    load_state(module, read_checkpoint(path), name)
    assert_holds(module, state)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": []}},
        lambda state: {"model_state_dict": state, "loss": 0.5},
        lambda state: {"state_dict": {"model": state}},
        lambda state: {f"module.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
        lambda state: {f"module._orig_mod.{name}": value for name, value in state.items()},
        lambda state: {f"_orig_mod.module.{name}": value for name, value in state.items()},
        lambda state: {name: nn.Parameter(value, value.is_floating_point()) for name, value in state.items()},
        lambda state: {**state, "epoch": 3},
    ],
)
def test_wrapped_checkpoints_are_accepted(tmp_path: Path, state: dict[str, Tensor], wrap) -> None:  # type: ignore[no-untyped-def]
    torch.save(wrap(state), tmp_path / "a.pth")
    module = small()
    load_state(module, read_checkpoint(tmp_path / "a.pth"), "a.pth")
    assert_holds(module, state)


def test_a_networks_own_name_is_no_wrapper() -> None:
    own = nn.Module()
    own.module = nn.Linear(2, 2)
    other = {name: torch.full_like(value, 2.0) for name, value in own.state_dict().items()}
    load_state(own, other, "own")
    assert_holds(own, other)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floating_point_types_are_converted(state: dict[str, Tensor], dtype: torch.dtype) -> None:
    given = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    module = small()
    load_state(module, given, "half")
    assert_holds(module, {name: given[name].to(value.dtype) for name, value in state.items()})


def test_counters_of_batches_may_be_missing_or_too_many(state: dict[str, Tensor]) -> None:
    module = small()
    module.get_buffer("1.num_batches_tracked").fill_(9)
    without = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    load_state(module, {**without, "0.num_batches_tracked": torch.tensor(1)}, "old")
    assert_holds(module, {**state, "1.num_batches_tracked": torch.tensor(0)})


def test_what_does_not_fit_is_counted_and_named_and_nothing_is_loaded(state: dict[str, Tensor]) -> None:
    module = small()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    del state["1.weight"]
    state["3.weight"] = torch.zeros(10, 16)
    state["0.bias"] = torch.zeros(4, dtype=torch.int8)
    state.update({f"head.{index}": torch.zeros(1) for index in range(5)})
    with pytest.raises(WeightsError) as caught:
        load_state(module, state, "a.pth")
    assert str(caught.value) == (
        "a.pth does not fit the network: of 9 tensors 1 missing, 5 unexpected, 2 of another shape or type\n"
        "missing: 1.weight; unexpected: head.0, head.1, head.2 and 2 more; "
        "of another shape or type: 0.bias (4, int8 instead of 4), 3.weight (10x16 instead of 5x16)"
    )
    assert_holds(module, before)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_refused(state: dict[str, Tensor], value: float) -> None:
    state["0.weight"][1, 2, 0, 0] = value
    with pytest.raises(WeightsError, match=r"^a: 0\.weight holds values that are infinite or not numbers$"):
        load_state(small(), state, "a")


def test_values_that_overflow_the_modules_type_are_refused(state: dict[str, Tensor]) -> None:
    with pytest.raises(WeightsError, match=r"0\.bias holds values"):
        load_state(small(), {**state, "0.bias": torch.full((4,), 1e300, dtype=torch.float64)}, "a")


@pytest.mark.parametrize("odd", [torch.zeros(4, device="meta"), torch.zeros(4).to_sparse()])
def test_tensors_without_plain_values_are_refused(state: dict[str, Tensor], odd: Tensor) -> None:
    with pytest.raises(WeightsError, match="1 of another shape or type"):
        load_state(small(), {**state, "0.bias": odd}, "a")


class Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch '{self.victim}'",)


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "inside"])
def test_code_in_a_file_does_not_run(tmp_path: Path, state: dict[str, Tensor], kind: str) -> None:
    path, victim = tmp_path / "a.pth", tmp_path / "victim"
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"0.weight": Bomb(victim)}, protocol=2))
    elif kind == "inside":
        torch.save({"state_dict": state, "args": Bomb(victim)}, path)
    else:
        torch.save({"0.weight": Bomb(victim)}, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(WeightsError, match=r"holds more than tensors .*posix\.system") as caught:
        read_checkpoint(path)
    assert str(caught.value).count("\n") == 1
    assert not victim.exists()
    # The same file is a real attack for whoever unpickles it.
    if kind == "pickle":
        pickle.loads(path.read_bytes())
        assert victim.exists()


@pytest.mark.parametrize("content", [small(), {"state_dict": {}, "args": argparse.Namespace(lr=1)}])
def test_objects_are_named_not_loaded(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(
        WeightsError, match=r"holds more than tensors \((torch\.nn|argparse)\.\S+\), and reading"
    ):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.zeros(1)], "holds no state dict but a list"),
        (torch.zeros(1), "holds no state dict but a Tensor"),
        ({"epoch": 3, "loss": 0.5}, "holds no tensors by name; its keys are epoch, loss"),
        ({}, "its keys are none"),
        ({"state_dict": {}}, "its keys are none"),
        ({3: torch.zeros(1)}, "its keys are 3"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=message):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no checkpoint: it is empty"),
        (b"<!DOCTYPE html>\n<html>404</html>", "is no checkpoint: it is a web page"),
        (b"\n<html><body>", "is no checkpoint: it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer"),
        (b"nonsense" * 100, "is no checkpoint: neither safetensors nor written by torch.save"),
        (b"PK\x03\x04" + b"\0" * 300, "is damaged or incomplete"),
        (b"\x80\x02" + b"\xff" * 300, "is damaged"),
        (b"\xff" * 8 + b"{" + b" " * 300, "is damaged or incomplete"),
        ((2).to_bytes(8, "little") + b"{}", "holds no tensors"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, kind: str, share: float) -> None:
    path = tmp_path / "a.pth"
    write_large(path, kind)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match=r"damaged|cannot read|is no checkpoint"):
        read_checkpoint(path)


def test_one_flipped_bit_in_an_archive_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    write_large(path, "zip")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is damaged: the checksum of its record a/data/0 is wrong"):
        read_checkpoint(path)


def write_large(path: Path, kind: str) -> None:
    state = {"a": torch.rand(100, 100), "b": torch.rand(100)}
    if kind == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")


def test_a_program_is_no_checkpoint(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="is a TorchScript program"):
        read_checkpoint(tmp_path / "a.pt")


def test_a_folder_and_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"^cannot read \S+: Is a directory$"):
        read_checkpoint(tmp_path)
    with pytest.raises(WeightsError, match="there is no weights file"):
        read_checkpoint(tmp_path / "none")


def test_the_published_names_of_densenet_are_understood() -> None:
    from cnnport.models.densenet import densenet121, rename_keys

    names = list(densenet121().state_dict())
    old = {
        name.replace("norm1", "norm.1")
        .replace("norm2", "norm.2")
        .replace("conv1", "conv.1")
        .replace("conv2", "conv.2")
        if "denselayer" in name
        else name
        for name in names
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    assert set(rename_keys({name: torch.zeros(1) for name in old})) == set(names)
    assert set(rename_keys({name: torch.zeros(1) for name in names})) == set(names)
