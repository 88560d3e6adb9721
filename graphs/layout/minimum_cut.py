"""The cheapest way to part nodes in two, as a minimum cut (Ford and Fulkerson, 1956; blocking flows by Dinic, 1970).

Costs are of the form "node i moves", "node i stays", and "node i stays while node j moves": exactly those of which a
cut finds the least sum.
"""

from collections import deque
from collections.abc import Iterable

_SOURCE, _SINK = 0, 1
FORBIDDEN = 1 << 62
"""A cost that no cut pays."""


class MinimumCut:
    """A problem under construction: nodes are numbered from 2 up, in the order in which they are added."""

    def __init__(self) -> None:
        self._heads: list[list[int]] = [[], []]
        self._ends: list[int] = []
        self._room: list[int] = []

    def add_node(self) -> int:
        """A new node that may stay or move."""
        self._heads.append([])
        return len(self._heads) - 1

    def add_any(self, nodes: Iterable[int]) -> int:
        """A new node that moves if any of these does."""
        added = self.add_node()
        for node in nodes:
            self.if_parted(added, node, FORBIDDEN)
        return added

    def add_all(self, nodes: Iterable[int]) -> int:
        """A new node that moves only if all of these do."""
        added = self.add_node()
        for node in nodes:
            self.if_parted(node, added, FORBIDDEN)
        return added

    def if_moved(self, node: int, cost: int) -> None:
        """``cost`` is due if ``node`` moves."""
        self._edge(_SOURCE, node, cost)

    def if_kept(self, node: int, cost: int) -> None:
        """``cost`` is due if ``node`` stays."""
        self._edge(node, _SINK, cost)

    def if_parted(self, stays: int, moves: int, cost: int) -> None:
        """``cost`` is due if the one stays and the other moves."""
        self._edge(stays, moves, cost)

    def moved(self) -> frozenset[int]:
        """The nodes that move in the cheapest solution; of equal ones, that in which the fewest do."""
        while (levels := self._levels())[_SINK] >= 0:
            places = [0] * len(self._heads)
            while self._push(levels, places):
                pass
        seen = {_SINK}
        queue = deque([_SINK])
        while queue:
            node = queue.popleft()
            for edge in self._heads[node]:
                # The edge's twin leads here: whoever can still push to the sink is on its side.
                before = self._ends[edge]
                if self._room[edge ^ 1] > 0 and before not in seen:
                    seen.add(before)
                    queue.append(before)
        return frozenset(seen - {_SINK})

    def _edge(self, start: int, end: int, room: int) -> None:
        if room <= 0:
            return
        self._heads[start].append(len(self._ends))
        self._ends.append(end)
        self._room.append(room)
        self._heads[end].append(len(self._ends))
        self._ends.append(start)
        self._room.append(0)

    def _levels(self) -> list[int]:
        levels = [-1] * len(self._heads)
        levels[_SOURCE] = 0
        queue = deque([_SOURCE])
        while queue:
            node = queue.popleft()
            for edge in self._heads[node]:
                end = self._ends[edge]
                if self._room[edge] > 0 and levels[end] < 0:
                    levels[end] = levels[node] + 1
                    queue.append(end)
        return levels

    def _push(self, levels: list[int], places: list[int]) -> bool:
        """One path from the source to the sink along rising levels, filled; False where there is none."""
        path: list[int] = []
        node = _SOURCE
        while node != _SINK:
            if places[node] < len(self._heads[node]):
                edge = self._heads[node][places[node]]
                end = self._ends[edge]
                if self._room[edge] > 0 and levels[end] == levels[node] + 1:
                    path.append(edge)
                    node = end
                else:
                    places[node] += 1
            elif path:
                node = self._ends[path.pop() ^ 1]
                places[node] += 1
            else:
                return False
        amount = min(self._room[edge] for edge in path)
        for edge in path:
            self._room[edge] -= amount
            self._room[edge ^ 1] += amount
        return True
