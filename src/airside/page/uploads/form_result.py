"""The result of a form without scripts."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FormResult:
    """The names of the stored files, and why not all were stored; then `status` is 4xx or 5xx."""

    stored: tuple[str, ...]
    problem: str = ""
    status: int = 200
