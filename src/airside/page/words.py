"""The texts of the page in the reader's language. Pure.

Each language has every key (a test compares them). Names and reasons that come from archives or
from the agent are not translated: they are marked as English or as no language.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from airside.page.chinese import CHINESE
from airside.page.english import ENGLISH
from airside.registry.rules.quality_value import quality

LANGUAGES: Mapping[str, Mapping[str, str]] = {"en": ENGLISH, "zh": CHINESE}
TAGS = {"en": "en", "zh": "zh-Hans"}
"""The value of the attribute `lang`."""
NAMES = {"en": "English", "zh": "中文"}
DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language."""

    language: str = DEFAULT

    def __call__(self, key: str, **values: object) -> str:
        """Returns the text of a key, with its values. Raises KeyError."""
        return LANGUAGES[self.language][key].format(**values)

    def count(self, key: str, number: int) -> str:
        """Returns the text for a number: `key.one` for 1, else `key.many`."""
        return self(f"{key}.one" if number == 1 else f"{key}.many", n=number)

    def state(self, state: str) -> str:
        """Returns the word for a state, or the state itself if it is a new one."""
        return LANGUAGES[self.language].get(f"state.{state}", state)

    @property
    def tag(self) -> str:
        return TAGS[self.language]


def choose_language(chosen: str, kept: str, accepted: str) -> str:
    """Returns the language chosen now, else that of the cookie, else of Accept-Language."""
    for each in (chosen, kept):
        if each in LANGUAGES:
            return each
    best, best_quality = DEFAULT, 0.0
    for item in accepted[:500].split(","):
        tag, _, parameters = item.strip().partition(";")
        found = tag.partition("-")[0].strip().lower()
        value = quality(parameters)
        if found in LANGUAGES and value > best_quality:
            best, best_quality = found, value
    return best
