"""What decoders read out of a task: its texts, the skills among them, and what measures them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError
from hare_gym.text.domain import domain_of
from hare_gym.text.measure import CONTENT_DIM, Measurer, read_skill
from hare_gym.text.skills import MAX_BYTES, Skill, SkillError, parse


def texts_of(decoder: str, spec: TaskSpec) -> tuple[str, ...]:
    """The pool's texts.

    Raises:
        ConfigError: There are none.
    """
    if not spec.pool_texts:
        raise ConfigError(
            f"The decoder {decoder!r} needs a task whose items have texts; those of {spec.id} have none."
        )
    return spec.pool_texts


def skills_of(texts: Sequence[str]) -> list[Skill | None]:
    """The skills among texts, in their places; None for a text that is no skill."""
    return [_skill(text) for text in texts]


def reader_of(spec: TaskSpec) -> Callable[[str], NDArray[np.float64]]:
    """What any reader can measure a task's texts with: it takes a text and gives its content vector.

    Raises:
        ConfigError: As `measurer_of` for skills; in another domain, the task was made by another version of it.
    """
    domain = domain_of(spec)
    if domain is not None:
        return domain.content_of
    measurer = measurer_of(spec)
    return lambda text: content_of_text(measurer, text)


def measurer_of(spec: TaskSpec) -> Measurer:
    """What any reader can measure a task's skills with.

    Raises:
        ConfigError: The task's content vectors are not those of `hare_gym.text.measure`, or its encoder is not there.
    """
    if spec.content_dim != CONTENT_DIM or not spec.encoder:
        raise ConfigError(
            f"Texts of {spec.id} cannot be measured: its vectors have {spec.content_dim} numbers and the encoder "
            f"{spec.encoder!r}, and those of hare_gym.text.measure have {CONTENT_DIM}. Play HareSkills-v0, or "
            "another task whose texts are skills."
        )
    named = spec.kwargs.get("encoder")
    measurer = Measurer(named if isinstance(named, str) else "minilm")
    if measurer.encoder_name != spec.encoder:
        raise ConfigError(
            f"The texts of {spec.id} were measured with the encoder {spec.encoder}, and what is installed here is "
            f"{measurer.encoder_name}."
        )
    return measurer


def content_of_text(measurer: Measurer, text: str) -> NDArray[np.float64]:
    """Phi of a text, ``(17,)``, as any reader can measure it; zero for a text that is no skill."""
    units = read_skill(text)[1] if len(text) <= MAX_BYTES else None
    return np.zeros(CONTENT_DIM) if units is None else measurer.content(units)


def _skill(text: str) -> Skill | None:
    try:
        return parse(text, lenient=True)
    except SkillError:
        return None
