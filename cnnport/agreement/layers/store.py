"""Values of the reference on disk, so that memory holds one at a time."""

from pathlib import Path

import numpy as np

from cnnport.agreement.layers.graph import Array


class Store:
    """Arrays by name in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._places: dict[str, Path] = {}
        self._folder.mkdir(parents=True, exist_ok=True)

    def put(self, name: str, array: Array) -> None:
        """Keep an array; one of that name that is there stays."""
        if name not in self._places:
            path = self._folder / f"{len(self._places)}.npy"
            np.save(path, array)
            self._places[name] = path

    def get(self, name: str) -> Array:
        """An array, read from the disk where it is looked at."""
        found: Array = np.load(self._places[name], mmap_mode="r")
        return found

    def __contains__(self, name: str) -> bool:
        """Whether there is one of that name."""
        return name in self._places

    @property
    def bytes(self) -> int:
        """What lies on the disk."""
        return sum(path.stat().st_size for path in self._places.values())
