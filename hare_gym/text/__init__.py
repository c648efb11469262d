"""Text as content: skills and prompts, their format, screening, collection and the built-in corpus.

``hare_gym.text.skills`` reads and writes SKILL.md files, ``hare_gym.text.screening`` judges texts of strangers,
``hare_gym.text.sources`` and ``hare_gym.text.collect`` bring collections in, and ``hare_gym.text.corpus`` is what is
there without any of them.
"""

from hare_gym.text.corpus import Corpus, load_corpus
from hare_gym.text.skills import Skill, SkillError, Violation, make_skill, parse, render, validate

__all__ = [
    "Corpus",
    "Skill",
    "SkillError",
    "Violation",
    "load_corpus",
    "make_skill",
    "parse",
    "render",
    "validate",
]
