"""From the views of a few pictures to a row of probabilities for each, and from there to counts."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnport.classify import probabilities
from cnnport.errors import CheckFailedError, ImageError
from cnnport.evaluation.data import LabelledPictures
from cnnport.evaluation.network import Network
from cnnport.evaluation.protocol import Protocol
from cnnport.evaluation.tally import Tally
from cnnport.evaluation.views import Floats, Views, views_of
from cnnport.metadata import Picture
from cnnport.preprocess import Preprocess
from cnnport.runtimes import Session

Rows = NDArray[np.float64]


class Batch:
    """The pictures of some places, decoded; those that cannot be read are noted."""

    def __init__(
        self,
        pictures: LabelledPictures,
        places: range,
        protocol: Protocol,
        preprocess: Preprocess,
        picture: Picture | None = None,
    ) -> None:
        """Decode them and cut them up."""
        self.places: list[int] = []
        self.views: list[Views] = []
        self._pictures = pictures
        self._skipped: list[tuple[int, str]] = []
        for place in places:
            try:
                self.views.append(views_of(pictures.image(place), protocol, preprocess, picture))
            except ImageError as error:
                self._skipped.append((place, str(error)))
            else:
                self.places.append(place)

    def tally(self, session: Session, network: Network, rows: int) -> Tally:
        """What a network says of them.

        Args:
            session: Of the network.
            network: What it is.
            rows: How many views are run at once.

        Raises:
            CheckFailedError: If a score is NaN or infinite.
            FeedError: If the runtime fails.
        """
        tally = Tally()
        for place, reason in self._skipped:
            tally.skip(place, self._pictures.name(place), reason)
        if not self.places:
            return tally
        names = [self._pictures.name(place) for place in self.places]
        found = probabilities_of(session, network, self.views, rows, names)
        for place, row in zip(self.places, found, strict=True):
            tally.add(self._pictures.label(place), row)
        return tally


def probabilities_of(
    session: Session, network: Network, views: Sequence[Views], rows: int, names: Sequence[str]
) -> Rows:
    """A row for each picture; see ``protocol`` for what is averaged.

    Args:
        session: Of the network.
        network: What it is.
        views: Of at least one picture.
        rows: How many views are run at once.
        names: Of the pictures, for messages.

    Returns:
        Pictures x classes.

    Raises:
        CheckFailedError: If a score is NaN or infinite.
        FeedError: If the runtime fails.
    """
    parts: list[Rows] = []
    if per_picture := len(views[0].crops):
        owners = [name for name in names for _ in range(per_picture)]
        sizes = {each.crops.shape for each in views}
        if len(sizes) == 1:
            crops = views[0].crops if len(views) == 1 else np.concatenate([each.crops for each in views])
            scores = _run(session, network, crops, network.output, rows, owners)
        else:
            # A picture file takes pictures of any size, but not in one batch.
            scores = np.concatenate(
                [
                    _run(session, network, each.crops, network.output, rows, [name])
                    for each, name in zip(views, names, strict=True)
                ]
            )
        softmax = _softmax(scores.reshape(len(scores), -1), network)
        parts.append(softmax.reshape(len(views), per_picture, -1).mean(axis=1))
    if network.window_map is not None:
        dense = [
            np.mean([_dense(session, network, scale, rows, name) for scale in each.dense], axis=0)
            for each, name in zip(views, names, strict=True)
        ]
        parts.append(np.stack(dense))
    mean: Rows = np.mean(parts, axis=0)
    return mean


def _dense(session: Session, network: Network, mirrored: Floats, rows: int, name: str) -> Rows:
    """Of one picture at one scale: scores averaged over windows, then probabilities over mirror images."""
    assert network.window_map is not None
    scores = _run(session, network, mirrored, network.window_map, rows, [name] * len(mirrored))
    mean: Rows = _softmax(scores.mean(axis=(2, 3)), network).mean(axis=0)
    return mean


def _softmax(scores: Rows, network: Network) -> Rows:
    return np.stack([probabilities(row, network.output) for row in scores])


def _run(
    session: Session,
    network: Network,
    views: Floats | NDArray[np.uint8],
    output: str,
    rows: int,
    owners: Sequence[str],
) -> Rows:
    """The scores of some views, so many at a time; a file of a fixed batch is fed full ones."""
    found: list[Rows] = []
    for start in range(0, len(views), rows):
        part = views[start : start + rows]
        count = len(part)
        if network.fixed_batch is not None and count < network.fixed_batch:
            part = np.concatenate([part, np.repeat(part[-1:], network.fixed_batch - count, axis=0)])
        feeds = {network.input_name: part.astype(network.input_dtype, copy=False)}
        scores = np.asarray(session.run(feeds)[output], np.float64)[:count]
        finite = np.isfinite(scores).reshape(count, -1).all(axis=1)
        if not finite.all():
            where = owners[start + int(np.argmin(finite))]
            raise CheckFailedError(
                f"{network.artifact.path} gives NaN or infinity for {where} on {network.runtime}"
            )
        found.append(scores)
    return np.concatenate(found)
