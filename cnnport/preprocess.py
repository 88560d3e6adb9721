"""What has to happen to a picture before a network sees it, as data that travels in the exported file."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Self


@dataclass(frozen=True)
class Preprocess:
    """Decode, resize, crop, scale to 0..1, normalise: in this order, as torchvision's evaluation does it.

    Attributes:
        size: Height and width of the network's input in pixels.
        resize: Length in pixels that the shorter side is scaled to before the centre crop; None scales both
            sides to ``size`` without a crop.
        interpolation: Filter of the resize, always with antialias.
        mean: Subtracted from each channel after scaling to 0..1; one number a channel.
        std: What each channel is divided by after that.
        background: Grey level (0..255) that shows through transparent pixels.
    """

    size: tuple[int, int]
    resize: int | None
    interpolation: Literal["bilinear", "bicubic"]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    background: int = 255

    @property
    def channels(self) -> int:
        """1 for grey, 3 for RGB."""
        return len(self.mean)

    def resized(self, size: tuple[int, int]) -> Self:
        """The same for another input size; the part of the picture that the crop keeps stays the same."""
        resize = None if self.resize is None else round(self.resize * min(size) / min(self.size))
        return type(self)(size, resize, self.interpolation, self.mean, self.std, self.background)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The inverse of ``to_json``.

        Raises:
            KeyError, TypeError, ValueError: If the data is of another form.
        """
        height, width = map(int, data["size"])
        mean, std = (tuple(float(value) for value in data[key]) for key in ("mean", "std"))
        if (
            data["interpolation"] not in {"bilinear", "bicubic"}
            or len(mean) != len(std)
            or len(mean) not in {1, 3}
        ):
            raise ValueError("not a known preprocessing")
        resize = None if data["resize"] is None else int(data["resize"])
        return cls((height, width), resize, data["interpolation"], mean, std, int(data["background"]))


def imagenet(size: int = 224, resize: int = 256) -> Preprocess:
    """The evaluation preprocessing of torchvision's classification weights."""
    return Preprocess((size, size), resize, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
