"""Answers that said that their jobs still run: most answers are one of these, and are not parsed again."""

from collections.abc import Callable
from typing import Final

from gateway.config.state import State
from gateway.jobs.job import Job
from gateway.jobs.status_answer import MAX_CONTENT

MAX: Final = 1024


class UnfinishedAnswers:
    """Remembers some, by the shape that parsed them. `state` returns the State in force."""

    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state
        self._shapes = state().shapes
        self._seen: set[tuple[int, bytes]] = set()  # by the shape's id

    def __repr__(self) -> str:
        return f"<UnfinishedAnswers {len(self._seen)}>"

    def has(self, job: Job, content: bytes) -> bool:
        """Whether this very answer was parsed before, and said that a job of this shape still runs."""
        return self._state().shapes is self._shapes and (id(job.shape), content) in self._seen

    def remember(self, job: Job, content: bytes) -> None:
        """Remembers an answer that said that its job runs, if it is small."""
        if len(content) <= MAX_CONTENT:
            shapes = self._state().shapes
            if len(self._seen) >= MAX or shapes is not self._shapes:  # words may mean something else
                self._seen.clear()
                self._shapes = shapes
            self._seen.add((id(job.shape), content))
