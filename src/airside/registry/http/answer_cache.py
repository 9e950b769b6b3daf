"""Answers of the registry that fit into memory, by request target."""

from collections import OrderedDict
from dataclasses import dataclass, field

from airside.core.settings import MIB
from airside.registry.rules.answers import Answer

CACHE_BYTES = 8 * MIB
"""Limit of all cached answers, keys and overhead included."""

_ENTRY_BYTES = 1024  # an entry besides its body and key: objects, headers, slots of the map


@dataclass(slots=True)
class AnswerCache:
    """Answers by request target; bounded in bytes, the least recently used is dropped first.

    All answers belong to one generation of the view: `get` for another one drops them. Not
    thread-safe.
    """

    limit_bytes: int = CACHE_BYTES
    generation: int = -1
    held_bytes: int = 0
    _entries: OrderedDict[str, Answer] = field(default_factory=OrderedDict)

    def get(self, target: str, generation: int) -> Answer | None:
        if generation != self.generation:
            self._entries.clear()
            self.generation, self.held_bytes = generation, 0
            return None
        found = self._entries.get(target)
        if found is not None:
            self._entries.move_to_end(target)
        return found

    def put(self, target: str, generation: int, found: Answer) -> None:
        """Stores an answer of this generation, unless the answer is too large."""
        size = _entry_bytes(target, found)
        if generation != self.generation or size > self.limit_bytes // 4:
            return
        replaced = self._entries.pop(target, None)
        self.held_bytes += size - (_entry_bytes(target, replaced) if replaced else 0)
        self._entries[target] = found
        while self.held_bytes > self.limit_bytes:
            self.held_bytes -= _entry_bytes(*self._entries.popitem(last=False))


def _entry_bytes(target: str, found: Answer) -> int:
    return len(found.body) + len(target) + _ENTRY_BYTES
