"""What of a picture a network is shown and what is averaged: against references that do it step by step."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cnnport import registry
from cnnport.artifact import Artifact, TensorSpec
from cnnport.dense import dense_form
from cnnport.errors import ArtifactError, CnnportError
from cnnport.evaluation import Protocol, parse_protocol, views
from cnnport.evaluation.network import prepare_network
from cnnport.evaluation.scoring import probabilities_of
from cnnport.evaluation.views import views_of
from cnnport.images import preprocess_image
from cnnport.preprocess import Preprocess, imagenet
from cnnport.runtimes import Options

SMALL = Preprocess((14, 14), 16, "bilinear", (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
RNG = np.random.default_rng(0)
WIDE = Image.fromarray(RNG.integers(0, 256, (19, 31, 3), dtype=np.uint8))
TALL = Image.fromarray(RNG.integers(0, 256, (33, 17, 3), dtype=np.uint8))


def resized(picture: Image.Image, shorter: int) -> np.ndarray:
    """Rows x columns x 3, the shorter side as told."""
    short = min(picture.size)
    size = tuple(int(shorter * side / short) for side in picture.size)
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def prepared(pixels: np.ndarray, preprocess: Preprocess) -> np.ndarray:
    rows, columns, _ = pixels.shape
    result = np.empty((3, rows, columns), np.float32)
    for channel in range(3):
        for row in range(rows):
            scaled = pixels[row, :, channel].astype(np.float32) / np.float32(255)
            result[channel, row] = (scaled - np.float32(preprocess.mean[channel])) / np.float32(
                preprocess.std[channel]
            )
    return result


def plain_crops(
    picture: Image.Image, count: int, scales: tuple[int, ...], preprocess: Preprocess
) -> list[np.ndarray]:
    """The crops of the papers by slices, slowly."""
    side = preprocess.size[0]
    found = []
    for scale in scales:
        pixels = resized(picture, scale)
        squares = [pixels]
        if count == 144:
            gap = max(pixels.shape[:2]) - scale
            starts = (0, round(gap / 2), gap)
            is_wide = pixels.shape[1] > pixels.shape[0]
            squares = [pixels[:, at : at + scale] if is_wide else pixels[at : at + scale] for at in starts]
        crops = []
        for square in squares:
            down, right = square.shape[0] - side, square.shape[1] - side
            middle = (round(down / 2), round(right / 2))
            places = [middle] if count == 1 else [(0, 0), (0, right), (down, 0), (down, right), middle]
            crops += [square[top : top + side, left : left + side] for top, left in places]
            if count == 144:
                whole = Image.fromarray(square).resize((side, side), Image.Resampling.BILINEAR)
                crops.append(np.asarray(whole))
        if count in {10, 144}:
            crops += [crop[:, ::-1] for crop in crops]
        found += [prepared(crop, preprocess) for crop in crops]
    return found


def is_as_plain(picture: Image.Image, protocol: Protocol, preprocess: Preprocess) -> bool:
    settled = protocol.settled(preprocess)
    found = views_of(picture, settled, preprocess).crops
    expected = plain_crops(picture, protocol.crops, settled.scales, preprocess)
    assert len(expected) == settled.views
    return len(found) == len(expected) and all(
        np.array_equal(one, other) for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("picture", [WIDE, TALL], ids=["wide", "tall"])
@pytest.mark.parametrize(("crops", "views"), [(1, 1), (5, 5), (10, 10), (144, 144)])
def test_crops_are_those_of_a_plain_reference(picture: Image.Image, crops: int, views: int) -> None:
    assert Protocol(crops).settled(SMALL).views == views
    assert is_as_plain(picture, Protocol(crops), SMALL)
    if crops != 144:
        assert is_as_plain(picture, Protocol(crops, scales=(16, 21)), SMALL)


def test_a_crop_that_is_off_by_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = views._cut

    def shifted(picture: Image.Image, corner: tuple[int, int], size: tuple[int, int]) -> Image.Image:
        return cut(picture, (corner[0] - (corner[0] > 0), corner[1]), size)

    monkeypatch.setattr(views, "_cut", shifted)
    assert not is_as_plain(WIDE, Protocol(5), SMALL)


def test_crops_that_are_not_mirrored_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "transpose", lambda image, _way: image)
    assert not is_as_plain(WIDE, Protocol(10), SMALL)


def test_one_crop_is_what_the_network_is_otherwise_given(tmp_path: Path) -> None:
    WIDE.save(tmp_path / "wide.png")
    found = views_of(tmp_path / "wide.png", Protocol().settled(SMALL), SMALL)
    np.testing.assert_array_equal(found.crops[0], preprocess_image(tmp_path / "wide.png", SMALL))


class Module:
    """A session over a module of PyTorch's."""

    def __init__(self, module: nn.Module, names: tuple[str, ...]) -> None:
        self._module, self._names = module.eval(), names

    def run(self, feeds):
        (array,) = feeds.values()
        with torch.no_grad():
            found = self._module(torch.from_numpy(np.ascontiguousarray(array)))
        found = found if isinstance(found, dict) else {self._names[0]: found}
        return {name: value.numpy() for name, value in found.items()}


def artifact(preprocess: Preprocess, *, is_dense: bool) -> Artifact:
    from cnnport.metadata import to_json

    sides = ("height", "width") if is_dense else preprocess.size
    logits = TensorSpec("logits", "float32", ("batch", 5))
    windows = TensorSpec("map", "float32", ("batch", 5, "rows", "columns"))
    return Artifact(
        Path("network.onnx"),
        "0",
        "network",
        18,
        "fp32",
        "portable",
        (TensorSpec("input", "float32", ("batch", 3, *sides)),),
        (logits, windows) if is_dense else (logits,),
        {"cnnport.preprocess": to_json(preprocess.to_json())},
    )


class Windows(nn.Module):
    """A dense form in little: a score for every 14 x 14 window, in steps of one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 14)
        nn.init.normal_(self.conv.weight, std=0.1)

    def forward(self, images):
        scores = self.conv(images)
        return {"logits": scores.mean((2, 3)), "map": scores}


def softmax(scores: np.ndarray) -> np.ndarray:
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()


@pytest.mark.parametrize("text", ["dense", "10", "10+dense", "1"])
@pytest.mark.parametrize("scales", ["16", "16,19"])
def test_what_is_averaged(text: str, scales: str) -> None:
    torch.manual_seed(0)
    module = Windows()
    protocol = parse_protocol(text, scales)
    network = prepare_network(artifact(SMALL, is_dense=True), "null", Options(), protocol)
    shown = [views_of(picture, network.protocol, SMALL) for picture in (WIDE, TALL)]
    found = probabilities_of(Module(module, ()), network, shown, 4, ["wide", "tall"])

    def windows_of(pixels: np.ndarray) -> np.ndarray:
        """The scores of every window by itself, averaged."""
        _, rows, columns = pixels.shape
        each = [
            module(torch.from_numpy(pixels[None, :, top : top + 14, left : left + 14].copy()))["logits"][0]
            for top in range(rows - 13)
            for left in range(columns - 13)
        ]
        return torch.stack(each).double().mean(0).detach().numpy()

    for row, picture in zip(found, (WIDE, TALL), strict=True):
        parts = []
        if protocol.crops is not None:
            crops = plain_crops(picture, protocol.crops, protocol.scales, SMALL)
            parts.append(np.mean([softmax(windows_of(crop)) for crop in crops], axis=0))
        if protocol.dense:
            wholes = [prepared(resized(picture, scale), SMALL) for scale in protocol.scales]
            parts.append(
                np.mean(
                    [softmax(windows_of(each)) for whole in wholes for each in (whole, whole[:, :, ::-1])],
                    axis=0,
                )
            )
        np.testing.assert_allclose(row, np.mean(parts, axis=0), rtol=1e-5)
        assert row.sum() == pytest.approx(1)


def test_vgg16_on_384_pixels_gives_the_map_of_6_by_6_that_its_windows_give() -> None:
    """Simonyan and Zisserman, section 3.2: 384 pixels leave 12 x 12 features, and the head sees 7 x 7 of them."""
    torch.manual_seed(0)
    module = registry.get("vgg16").build(num_classes=5)
    module.eval()
    dense = Module(dense_form(module, (3, 224, 224)), ())
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (400, 400, 3), dtype=np.uint8))
    protocol = parse_protocol("dense", "384", flips=False)
    network = prepare_network(artifact(imagenet(), is_dense=True), "null", Options(), protocol)
    shown = views_of(picture, network.protocol, imagenet())
    (whole,) = shown.dense
    assert whole.shape == (1, 3, 384, 384)
    windows = dense.run({"input": whole})["map"]
    assert windows.shape == (1, 5, 6, 6)

    with torch.no_grad():
        features = module.features(torch.from_numpy(whole))
        assert features.shape[2:] == (12, 12)
        each = [
            [
                module.classifier(features[:, :, top : top + 7, left : left + 7].flatten(1))[0]
                for left in range(6)
            ]
            for top in range(6)
        ]
    slow = torch.stack([torch.stack(row, dim=1) for row in each], dim=1).numpy()
    spread = slow.std()
    assert np.abs(windows[0] - slow).max() < 1e-4 * spread
    # The windows differ, so that one in another's place would be seen.
    assert np.abs(windows[0] - slow[:, ::-1]).max() > 1e-2 * spread
    found = probabilities_of(dense, network, [shown], 1, ["square"])
    np.testing.assert_allclose(found[0], softmax(slow.astype(np.float64).mean((1, 2))), rtol=1e-4)


def test_the_mirror_image_is_shown_unless_it_is_not_wanted() -> None:
    (both,) = views_of(WIDE, parse_protocol("dense", None).settled(SMALL), SMALL).dense
    np.testing.assert_array_equal(both[1], both[0][:, :, ::-1])
    (one,) = views_of(WIDE, parse_protocol("dense", None, flips=False).settled(SMALL), SMALL).dense
    np.testing.assert_array_equal(one[0], both[0])


@pytest.mark.parametrize("text", ["2", "dense,dense", "1,5", "", "10-dense", "-1"])
def test_crops_that_are_none(text: str) -> None:
    with pytest.raises(CnnportError, match="--crops takes 1, 5, 10, 144, dense"):
        parse_protocol(text, None)


@pytest.mark.parametrize("text", ["", "0", "a", "256,", "256,256", "1e3", "99999999", "-4"])
def test_scales_that_are_none(text: str) -> None:
    with pytest.raises(CnnportError, match="--scales takes"):
        parse_protocol("1", text)


def test_a_protocol_that_does_not_fit_the_network() -> None:
    with pytest.raises(CnnportError, match="smaller than what the network takes, 14x14"):
        Protocol(5, scales=(13,)).settled(SMALL)
    whole = replace(SMALL, resize=None)
    with pytest.raises(CnnportError, match="leaves nothing to crop from: pass --scales"):
        Protocol(10).settled(whole)
    assert Protocol(10, scales=(20,)).settled(whole).scales == (20,)
    with pytest.raises(ArtifactError, match="--dense"):
        prepare_network(artifact(SMALL, is_dense=False), "null", Options(), Protocol(None, dense=True))


def test_words_say_what_is_averaged() -> None:
    assert str(parse_protocol("1", None).settled(SMALL)) == "1 crop (shorter side 16)"
    assert str(parse_protocol("10+dense", "16,20").settled(SMALL)) == (
        "mean softmax of 10 crops; dense form, scores averaged over its windows, mean softmax with the mirror "
        "image, mean softmax over scales, mean softmax of both (shorter side 16 and 20)"
    )
