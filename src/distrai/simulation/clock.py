"""Virtual time: a heap of what is going to happen."""

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class Clock:
    """Runs actions in the order of their times; those of one time in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Action]] = []
        self._asked = 0

    def __len__(self) -> int:
        return len(self._heap)

    def after(self, delay_s: float, action: Action) -> None:
        """Run ``action`` in ``delay_s`` seconds."""
        self._asked += 1
        heapq.heappush(self._heap, (self.now + max(0.0, delay_s), self._asked, action))

    def step(self) -> bool:
        """Run the next action; False if there is none."""
        if not self._heap:
            return False
        self.now, _, action = heapq.heappop(self._heap)
        action()
        return True
