"""Where weights come from, what is said about it, and what happens where they cannot be had."""

import hashlib
import http.server
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from cnnport import registry
from cnnport.errors import WeightsError
from cnnport.files import sha256_of
from cnnport.registry import ModelSpec, OfficialWeights
from cnnport.weights import LoadedWeights, cache_folder, load_weights, state_sha256

SPEC = registry.get("lenet5")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNPORT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which a server on loopback offers its files."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture
def offline() -> Iterator[str]:
    """An address that refuses connections."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{reserved.getsockname()[1]}"


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.manual_seed(11)
    return SPEC.build().eval()


@pytest.fixture
def checkpoint(tmp_path: Path, trained: nn.Module) -> Path:
    path = tmp_path / "official.pth"
    torch.save(trained.state_dict(), path)
    return path


def official(location: str, sha256: str) -> ModelSpec:
    return replace(SPEC, weights=OfficialWeights(location, sha256, 99.0, "digits"))


def load(
    spec: ModelSpec | None, source: str, module: nn.Module | None = None, **options: int
) -> tuple[nn.Module, LoadedWeights]:
    module = SPEC.build() if module is None else module
    return module, load_weights(module, spec, source, input_shape=(1, 32, 32), **options)


# Official weights.


def test_default_is_fetched_once_and_then_taken_from_the_cache(
    served: tuple[Path, str], checkpoint: Path, trained: nn.Module
) -> None:
    folder, url = served
    shutil.copy(checkpoint, folder / "net-1.pth")
    spec = official(f"{url}/net-1.pth", sha256_of(checkpoint)[:8])
    reported: list[tuple[int, int | None]] = []
    module = SPEC.build()
    loaded = load_weights(
        module, spec, "default", input_shape=(1, 32, 32), report=lambda *state: reported.append(state)
    )
    assert loaded == LoadedWeights("default", f"{url}/net-1.pth", state_sha256(trained), None)
    assert not module.training
    size = checkpoint.stat().st_size
    assert reported[-1] == (size, size)
    assert sha256_of(cache_folder() / "net-1.pth") == sha256_of(checkpoint)
    (folder / "net-1.pth").unlink()
    assert load(spec, "default")[1] == load(spec, "auto")[1] == loaded


def test_a_file_placed_by_hand_is_found_where_the_message_says(
    offline: str, checkpoint: Path, trained: nn.Module
) -> None:
    spec = official(f"{offline}/net-1.pth", sha256_of(checkpoint))
    with pytest.raises(WeightsError) as caught:
        load(spec, "default")
    place = cache_folder() / "net-1.pth"
    assert str(caught.value) == (
        f"cannot fetch {offline}/net-1.pth: 127.0.0.1 refuses the connection\n"
        f"it belongs at {place}; it can be put there by hand"
    )
    assert place.parent.is_dir()
    shutil.copy(checkpoint, place)
    assert load(spec, "default")[1].sha256 == state_sha256(trained)


def test_a_cached_file_with_a_wrong_hash_is_not_used(
    served: tuple[Path, str], offline: str, checkpoint: Path, trained: nn.Module
) -> None:
    place = cache_folder() / "net-1.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"the file there has another hash: replace it$"):
        load(official(f"{offline}/net-1.pth", sha256_of(checkpoint)), "default")
    folder, url = served
    shutil.copy(checkpoint, folder / "net-1.pth")
    _, loaded = load(official(f"{url}/net-1.pth", sha256_of(checkpoint)), "default")
    assert loaded.sha256 == state_sha256(trained)


def test_a_server_with_a_wrong_file_is_an_error(served: tuple[Path, str], checkpoint: Path) -> None:
    folder, url = served
    (folder / "net-1.pth").write_bytes(b"<!DOCTYPE html>")
    spec = official(f"{url}/net-1.pth", sha256_of(checkpoint)[:8])
    with pytest.raises(WeightsError, match="is not the expected file; expected SHA-256") as caught:
        load(spec, "default")
    assert str(caught.value).count("\n") == 1
    assert load(spec, "auto")[1].kind == "random"


def test_torchvisions_cache_is_used_but_not_changed(
    offline: str, checkpoint: Path, trained: nn.Module, tmp_path: Path
) -> None:
    shared = tmp_path / "torch" / "hub" / "checkpoints" / "net-1.pth"
    shared.parent.mkdir(parents=True)
    shutil.copy(checkpoint, shared)
    spec = official(f"{offline}/net-1.pth", sha256_of(checkpoint))
    assert load(spec, "auto")[1].sha256 == state_sha256(trained)
    assert not cache_folder().exists()
    shared.write_bytes(b"damaged")
    with pytest.raises(WeightsError, match="refuses the connection"):
        load(spec, "default")
    assert shared.read_bytes() == b"damaged"


def test_packaged_weights_need_no_cache() -> None:
    _, loaded = load(SPEC, "auto")
    assert (loaded.kind, loaded.origin, loaded.warning) == ("default", "lenet5_digits.safetensors", None)
    assert not cache_folder().exists()


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("none.safetensors", "is missing from"),
        ("lenet5_digits.safetensors", "in this installation .* is damaged"),
    ],
)
def test_a_broken_installation_is_named(location: str, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        load(official(location, "0" * 64), "default")


def test_networks_without_official_weights() -> None:
    spec = registry.get("mobilenet_v1_x0_25")
    with pytest.raises(
        WeightsError, match=r"^mobilenet_v1_x0_25 has no official weights\nuse --weights random"
    ):
        load_weights(spec.build(), spec, "default", input_shape=(3, 224, 224))
    loaded = load_weights(spec.build(), spec, "auto", input_shape=(3, 224, 224))
    assert loaded.kind == "random"
    assert loaded.warning == "the weights are random (seed 0): mobilenet_v1_x0_25 has no official weights"


# Automatic choice.


@pytest.mark.parametrize("way", ["refused", "unknown host", "silent name server", "unroutable"])
def test_auto_takes_random_weights_at_once_where_there_is_no_network(
    way: str, offline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    def resolve(*args: object, **kwargs: object) -> list[object]:
        if way == "silent name server":
            released.wait(20)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    if way in {"unknown host", "silent name server"}:
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
    host = {"refused": offline, "unroutable": "https://192.0.2.1"}.get(way, "https://weights.invalid")
    before = set(threading.enumerate())
    start_s = time.monotonic()
    module, loaded = load(official(f"{host}/net-1.pth", "0123abcd"), "auto", seed=4)
    assert time.monotonic() - start_s < 3
    assert (loaded.kind, loaded.origin) == ("random", "seed 4")
    assert loaded.warning is not None
    assert loaded.warning.startswith(f"the weights are random (seed 4): cannot fetch {host}/net-1.pth: ")
    assert "\n" not in loaded.warning
    assert state_sha256(module) == load(SPEC, "random", seed=4)[1].sha256
    released.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(20)


@pytest.mark.parametrize("change", [{"num_classes": 3}, {"in_channels": 3}])
def test_a_changed_network_is_found_not_to_fit_before_anything_is_fetched(
    change: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> Path:
        raise AssertionError("fetched")

    monkeypatch.setattr("cnnport.weights.fetch", never)
    spec = official("https://weights.invalid/net-1.pth", "0123abcd")
    with pytest.raises(WeightsError, match="the official weights of lenet5 do not fit it as changed: see"):
        load(spec, "default", spec.build(**change))
    module = spec.build(**change)
    loaded = load_weights(module, spec, "auto", input_shape=(change.get("in_channels", 1), 32, 32))
    assert loaded.kind == "random"
    assert loaded.warning is not None
    assert "do not fit it as changed" in loaded.warning


def test_auto_does_not_hide_official_weights_that_do_not_load(served: tuple[Path, str]) -> None:
    folder, url = served
    torch.save({"0.weight": torch.zeros(1)}, folder / "net.pth")
    spec = official(f"{url}/net.pth", sha256_of(folder / "net.pth"))
    with pytest.raises(WeightsError, match=r"net\.pth does not fit the network"):
        load(spec, "auto")


def test_a_network_of_ones_own() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    before = state_sha256(module)
    loaded = load_weights(module, None, "auto", input_shape=(1, 8, 8))
    assert loaded == LoadedWeights("own", "the callable's own", before, None)
    assert not module.training
    with pytest.raises(WeightsError, match="a network of your own has no official weights"):
        load_weights(module, None, "default", input_shape=(1, 8, 8))
    loaded = load_weights(module, None, "random", seed=2, input_shape=(1, 8, 8))
    assert (loaded.kind, loaded.origin, loaded.warning) == ("random", "seed 2", None)
    assert loaded.sha256 != before


def test_random_weights_do_not_depend_on_the_image_size() -> None:
    spec = registry.get("mobilenet_v1_x0_25")
    hashes = {
        load_weights(spec.build(), spec, "random", input_shape=(3, size, size)).sha256 for size in (96, 224)
    }
    assert len(hashes) == 1


# Files and addresses.


@pytest.mark.parametrize("ending", ["pth", "safetensors"])
def test_a_file_is_loaded_and_only_its_name_is_kept(tmp_path: Path, trained: nn.Module, ending: str) -> None:
    path = tmp_path / "secret folder" / f"mine.{ending}"
    path.parent.mkdir()
    (torch.save if ending == "pth" else safetensors.torch.save_file)(trained.state_dict(), path)
    _, loaded = load(SPEC, str(path))
    assert loaded == LoadedWeights("file", f"mine.{ending}", state_sha256(trained), None)
    assert load(None, str(path))[1] == loaded


def test_what_is_no_file_is_named() -> None:
    with pytest.raises(
        WeightsError, match=r"no weights file defualt: give auto, default, random, a file or an"
    ):
        load(SPEC, "defualt")


def test_older_names_of_the_family_are_understood(tmp_path: Path) -> None:
    spec = registry.get("densenet121")
    module = spec.build()
    state = {
        name.replace("norm1", "norm.1") if "denselayer" in name else name: value
        for name, value in module.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(state, tmp_path / "old.pth")
    expected = state_sha256(module)
    assert (
        load_weights(spec.build(), spec, str(tmp_path / "old.pth"), input_shape=(3, 224, 224)).sha256
        == expected
    )


@pytest.mark.parametrize(
    "name", [lambda sha256: f"net-{sha256[:8]}.pth", lambda sha256: f"net.pth#sha256={sha256}"]
)
def test_an_address_with_a_hash_is_checked_and_cached(
    served: tuple[Path, str], checkpoint: Path, trained: nn.Module, name: Callable[[str], str]
) -> None:
    folder, url = served
    sha256 = sha256_of(checkpoint)
    path = name(sha256)
    file = folder / path.partition("#")[0]
    shutil.copy(checkpoint, file)
    _, loaded = load(SPEC, f"{url}/{path}")
    assert loaded == LoadedWeights("url", f"{url}/{file.name}", state_sha256(trained), None)
    file.unlink()
    assert load(SPEC, f"{url}/{path}")[1] == loaded
    with pytest.raises(WeightsError, match="the server answers 404"):
        load(SPEC, f"{url}/{file.name}?2#sha256={sha256}")


def test_an_address_whose_file_has_another_hash_is_refused(
    served: tuple[Path, str], checkpoint: Path
) -> None:
    folder, url = served
    shutil.copy(checkpoint, folder / "net-0123abcd.pth")
    with pytest.raises(WeightsError, match="expected SHA-256 0123abcd, got"):
        load(SPEC, f"{url}/net-0123abcd.pth")
    _, loaded = load(SPEC, f"{url}/net-0123abcd.pth#sha256={sha256_of(checkpoint)}")
    assert loaded.kind == "url"


def test_an_address_without_hash_is_asked_anew_each_time(served: tuple[Path, str], checkpoint: Path) -> None:
    folder, url = served
    shutil.copy(checkpoint, folder / "net-20240131.pth")
    first = load(SPEC, f"{url}/net-20240131.pth")[1]
    changed = {name: value + 1 for name, value in torch.load(checkpoint).items()}
    torch.save(changed, folder / "net-20240131.pth")
    second = load(SPEC, f"{url}/net-20240131.pth")[1]
    assert first.sha256 != second.sha256
    (folder / "net-20240131.pth").unlink()
    third = load(SPEC, f"{url}/net-20240131.pth")[1]
    assert third.sha256 == second.sha256
    assert third.warning is not None
    assert third.warning.startswith("the weights are those fetched earlier: cannot fetch")


def test_secrets_in_an_address_are_not_kept(served: tuple[Path, str], checkpoint: Path) -> None:
    folder, url = served
    shutil.copy(checkpoint, folder / "net.pth")
    secret = url.replace("http://", "http://user:password@") + "/net.pth?signature=abc"
    _, loaded = load(SPEC, secret)
    assert loaded.origin == f"{url}/net.pth"
    for path in cache_folder().iterdir():
        assert "signature" not in path.name
        assert "password" not in path.name


def test_a_page_instead_of_a_file_is_named(served: tuple[Path, str]) -> None:
    folder, url = served
    (folder / "net.pth").write_bytes(b"<!DOCTYPE html><html>please log in</html>")
    with pytest.raises(WeightsError, match="it is a web page"):
        load(SPEC, f"{url}/net.pth")


# The hash of the state.


def test_the_state_hash_is_fixed_and_independent_of_order_and_memory_layout() -> None:
    module = nn.Linear(3, 2)
    with torch.no_grad():
        module.weight.copy_(torch.arange(6.0).view(2, 3))
        module.bias.copy_(torch.tensor([1.0, -1.0]))
    expected = hashlib.sha256(
        b'["bias", "float32", [2]]\n' + b"\0\0\x80\x3f\0\0\x80\xbf"
        b'["weight", "float32", [2, 3]]\n' + module.weight.detach().numpy().astype("<f4").tobytes()
    ).hexdigest()
    assert state_sha256(module) == expected
    module.weight = nn.Parameter(module.weight.detach().T.contiguous().T)
    assert not module.weight.is_contiguous()
    assert state_sha256(module) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_state_hash_sees_every_bit_and_the_type(dtype: torch.dtype) -> None:
    module = nn.BatchNorm2d(4)
    plain = state_sha256(module)
    other = state_sha256(module.to(dtype))
    assert other != plain
    module.get_buffer("num_batches_tracked").add_(1)
    assert state_sha256(module) != other


def test_the_cache_lies_in_the_users_folder_unless_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert cache_folder() == Path(os.environ["CNNPORT_CACHE"]) / "weights"
    monkeypatch.delenv("CNNPORT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cnnport" / "weights"
