"""How a picture becomes one row of probabilities: the crops, scales and flips of the papers, and what is averaged.

- Crops (Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural Networks, section
  4.1): 1 is the centre, 5 the four corners and the centre of the resized picture, 10 these and their mirror images.
  The paper cut a square out of the picture first; here the corners are the whole picture's, as everybody has done
  since.
- 144 crops (Szegedy et al., arXiv:1409.4842, section 7): of each scale three squares along the longer side; of each
  square its corners, its centre and the whole of it, made smaller; and the mirror images.
- Dense (Sermanet et al., arXiv:1312.6229; Simonyan and Zisserman, arXiv:1409.1556, section 3.2): the fully
  convolutional form sees the whole picture, and its mirror image.

Averages are of probabilities (softmax), over crops, mirror images and scales alike, except that the scores of a dense
form's windows are averaged before the softmax, as section 3.2 has it. Where both are asked for, the average of the
crops and that of the dense form count the same.
"""

from dataclasses import dataclass, replace
from typing import Any

from cnnport.errors import CnnportError
from cnnport.preprocess import Preprocess

CROPS = (1, 5, 10, 144)
_DENSE = "dense"

# Of the paper with 144 crops, whose network takes 224 pixels.
_SCALES_144 = (256, 288, 320, 352)
_SIZE_144 = 224

_MOST_SCALES = 16
_LARGEST_SCALE = 8192


@dataclass(frozen=True)
class Protocol:
    """What of a picture a network is shown.

    Attributes:
        crops: One of ``CROPS``; None for none.
        dense: Whether the fully convolutional form sees the whole picture.
        scales: Lengths in pixels that the shorter side is scaled to; empty for the network's own.
        flips: Whether the dense form sees the mirror image too.
    """

    crops: int | None = 1
    dense: bool = False
    scales: tuple[int, ...] = ()
    flips: bool = True

    @property
    def views(self) -> int:
        """How many crops of one picture a network is shown; at least 1."""
        per_scale = 36 if self.crops == 144 else self.crops or 1
        return per_scale * max(1, len(self.scales))

    def settled(self, preprocess: Preprocess) -> "Protocol":
        """The same with the scales that a network implies, where none were asked for.

        Raises:
            CnnportError: If a scale leaves nothing to crop from.
        """
        scales = self.scales
        if not scales and self.crops == 144:
            scales = tuple(round(scale * min(preprocess.size) / _SIZE_144) for scale in _SCALES_144)
        elif not scales and preprocess.resize is not None:
            scales = (preprocess.resize,)
        height, width = preprocess.size
        if not scales:
            if self.crops not in {None, 1} or self.dense:
                raise CnnportError(
                    f"pictures are scaled to {height}x{width} as a whole, which leaves nothing to crop from: "
                    f"pass --scales {round(min(height, width) * 8 / 7)}, or another length"
                )
            return self
        # The network's own preparation is taken as it is: it pads what is too small.
        is_own = self.crops == 1 and not self.dense and not self.scales
        if min(scales) < min(height, width) and not is_own:
            raise CnnportError(
                f"--scales {min(scales)} is smaller than what the network takes, {height}x{width}: "
                f"from {min(height, width)} on there is something to see"
            )
        return replace(self, scales=scales)

    def at_scales(self, preprocess: Preprocess) -> tuple[Preprocess, ...]:
        """The preparation at each scale, of a protocol that is ``settled``."""
        return tuple(replace(preprocess, resize=scale) for scale in self.scales) or (preprocess,)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "crops": self.crops,
            "dense": self.dense,
            "scales": list(self.scales),
            "flips": self.flips if self.dense else None,
            "averaged": str(self),
        }

    def __str__(self) -> str:
        """What is averaged, in words."""
        scales = f"shorter side {' and '.join(map(str, self.scales))}" if self.scales else "whole picture"
        parts = []
        if self.crops is not None:
            crops = f"{self.crops} crop{'s' * (self.crops != 1)}"
            parts.append(crops if self.views == 1 else f"mean softmax of {crops}")
        if self.dense:
            mirrored = ", mean softmax with the mirror image" if self.flips else ""
            parts.append(f"dense form, scores averaged over its windows{mirrored}")
        many = ", mean softmax over scales" if len(self.scales) > 1 else ""
        both = ", mean softmax of both" if len(parts) > 1 else ""
        return f"{'; '.join(parts)}{many}{both} ({scales})"


def parse_protocol(crops: str, scales: str | None, *, flips: bool = True) -> Protocol:
    """A protocol as the command line gives it.

    Args:
        crops: ``1``, ``5``, ``10``, ``144``, ``dense``, or a number and ``dense``, joined by ``+`` or a comma.
        scales: Such as ``256,384``; None for the network's own.
        flips: Whether the dense form sees the mirror image too.

    Raises:
        CnnportError: If it is none.
    """
    wanted = [part.strip() for part in crops.replace("+", ",").split(",")]
    numbers = [part for part in wanted if part != _DENSE]
    if len(set(wanted)) < len(wanted) or len(numbers) > 1 or any(n not in map(str, CROPS) for n in numbers):
        known = ", ".join(map(str, CROPS))
        raise CnnportError(
            f"--crops takes {known}, dense, or a number and dense as in 10+dense, not {crops!r}"
        )
    sides: list[int] = []
    for part in scales.split(",") if scales is not None else []:
        text = part.strip()
        if not text.isdecimal() or not 1 <= int(text[:6]) <= _LARGEST_SCALE or len(text) > 6:
            raise CnnportError(f"--scales takes lengths in pixels, such as 256,384, not {scales!r}")
        sides.append(int(text))
    if len(set(sides)) < len(sides) or len(sides) > _MOST_SCALES:
        raise CnnportError(f"--scales takes at most {_MOST_SCALES} lengths, each once, not {scales!r}")
    return Protocol(int(numbers[0]) if numbers else None, _DENSE in wanted, tuple(sides), flips)
