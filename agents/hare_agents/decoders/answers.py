"""Answers that a question's input and its user's profile suggest: what writers of LaMP's tasks choose among.

`Proposer` lists them: every label of a task that has labels, and for a text tens of fragments of the input, cut and
framed in the ways in which the user has written before. It knows no gold answer and learns nothing; whoever asks it
chooses. `LanguageModel` asks a causal language model instead.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_agents.decoders.habits import SMALL, Habits, Kept, Place, Profile, Source, profile_of, source_of
from hare_gym.config import configure
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError
from hare_gym.lamp.lexicon import STOP_WORDS
from hare_gym.lamp.reading import content_words, task_of_spec, tokens_of
from hare_gym.lamp.tasks import LampTask, ProfileItem, Question, query_of

Array = NDArray[np.float64]

COUNT = 48
"""Proposals of a text, at most."""

_CLAUSE = re.compile(r"\s*[,;:()\[\]–—]\s*|\s+-+\s+")
_LEAD = re.compile(
    r"^(?:(?:in|with) this (?:paper|work|article|study|letter|e-?mail|thesis)\W*|"
    r"(?:hi|hello|hey|dear)(?: \w+)?\W+|"
    r"(?:we|i|this (?:paper|work|article|study)|the authors?) (?:also |then |first )?"
    r"(?:propos\w*|present\w*|introduc\w*|stud(?:y|ies)|describ\w*|show(?:s|ed)?|investigat\w*|consider\w*|"
    r"address\w*|develop\w*|report\w*|examin\w*|analy[sz]\w*|explor\w*|discuss\w*)(?: that| how| whether)?\s+|"
    r"(?:and|but|so|also|moreover|however|furthermore|please|just|yesterday|today)\W+)+",
    re.IGNORECASE,
)
_LONGEST_PART = 16
# Short forms of words, and words that make others stronger, as people write them in messages.
_SHORT = {
    "you": "u", "your": "ur", "are": "r", "because": "bc", "tomorrow": "tmrw", "tonight": "2nite", "people": "ppl",
    "please": "pls", "thanks": "thx", "about": "abt", "with": "w", "before": "b4", "great": "gr8", "be": "b",
    "to": "2", "for": "4", "and": "n", "though": "tho", "through": "thru", "right": "rite", "night": "nite",
    "see": "c", "why": "y", "what": "wat", "okay": "ok", "weekend": "wknd", "morning": "mornin", "going": "goin",
}  # fmt: skip
_INTENSIFIERS = (
    "really",
    "very",
    "so",
    "super",
    "totally",
    "extremely",
    "truly",
    "hella",
    "absolutely",
    "incredibly",
)


def lamp_task(spec: TaskSpec, owner: str) -> LampTask:
    """The LaMP task that a writer is to play.

    Args:
        spec: Of ``HareLaMP1-v0`` to ``HareLaMP7-v0``.
        owner: Who needs it, for the message.

    Raises:
        ConfigError: It is none of these, or shows no texts.
    """
    if not spec.has_query_text or not spec.has_pool_text:
        raise ConfigError(
            f"{owner} answers LaMP's questions from their words and profiles, and {spec.id} in the mode "
            f"{spec.action_mode!r} shows none. Use HareLaMP1-v0 to HareLaMP7-v0 with action_mode='write'."
        )
    return task_of_spec(spec)


# -- proposals ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProposerConfig:
    """The knobs of `Proposer`.

    Attributes:
        count: Proposals of a text, at most.
        borrowed: Answers of similar profile items among them.
        framed: Share of the proposals that are set into the user's frames, the commoner ones first.
    """

    count: int = field(default=COUNT, metadata={"low": 2})
    borrowed: int = field(default=2, metadata={"low": 0})
    framed: float = field(default=0.8, metadata={"low": 0, "high": 1})


class Proposer:
    """Lists answers to a question.

    Where the task has labels they are all of them. For texts they are parts of the input, set into the frames in
    which the user has set such parts before, in their usual case:

    - Where the profile has sources with their answers, each answer is aligned with its source. The words around the
      part that it took tell where to cut new inputs (wrapper induction: Kushmerick et al. 1997), what the answer has
      before and behind it is a frame.
    - Other parts are sentences whole and cut to the lengths of the user's answers, clauses, and key phrases (runs of
      content words, scored as in RAKE: Rose et al. 2010), alone and joined.
    - Tweets, whose sources are not known, are framed by beginnings and ends that come back in the profile, and get
      the short forms and the intensifier that the user writes.
    - A few answers of similar items are proposed as they are.

    Raises:
        UnknownNameError: A knob that there is not.
        ConfigError: A knob out of range.
    """

    def __init__(self, **knobs: Any) -> None:
        self.config: ProposerConfig = configure(ProposerConfig, knobs, "the proposer of answers")

    def most(self, task: LampTask) -> int:
        """The most proposals that there can be for a task."""
        return len(task.labels) or self.config.count

    def __call__(self, task: LampTask, question: Question) -> tuple[str, ...]:
        """The proposals, at least one, no two with the same words."""
        if task.labels:
            return task.labels
        profile = profile_of(task, question.profile)
        source = query_of(task, question.input)
        return _proposals(profile, (self.config, source), lambda: self._texts(profile, source))

    def _texts(self, profile: Profile, source: str) -> tuple[str, ...]:
        habits = profile.habits
        whole = profile.alone
        placed = _distinct(_placed(source_of(source), habits.places))
        bodies = _distinct([*placed, *([source.rstrip(".")] if whole else []), *_bodies(source, habits)])
        if not bodies:
            return (source.strip() or "none",)
        if whole:
            bodies = _distinct(text for body in bodies for text in (_in_words_of(profile.vocabulary, body), body))
        borrowed = [] if whole else _borrowed(profile, source, self.config.borrowed)
        room = self.config.count - len(borrowed)
        frames = habits.frames or (("", ""),)
        plain = round(room * (1.0 - self.config.framed))
        texts = [
            *(_joined(*frames[k], bodies[i]) for i, k in _by_sum(len(bodies), len(frames))[: room - plain]),
            *bodies[:plain],
        ]
        texts += [_joined(*frames[0], body) for body in bodies]
        styled = [_styled(text, habits, whole) for text in texts]
        return tuple(_distinct([*_distinct(styled)[:room], *borrowed]))


_proposals: Kept[tuple[str, ...]] = Kept(2**13)


def _by_sum(rows: int, columns: int) -> list[tuple[int, int]]:
    """The cells of a table, those first whose places are early in both."""
    return sorted(((i, k) for i in range(rows) for k in range(columns)), key=lambda cell: (cell[0] + cell[1], cell))


def _distinct(texts: Iterable[str]) -> list[str]:
    """Those that have a word, and other words than those before them."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for text in texts:
        key = tokens_of(text)
        if key and key not in seen:
            seen.add(key)
            kept.append(text.strip())
    return kept


def _bodies(source: str, habits: Habits) -> list[str]:
    """Parts of a source that could be its title, the likelier ones first."""
    sentences = [" ".join(words) for words in source_of(source).sentences]
    if not sentences:
        return []
    bare = [_LEAD.sub("", sentence).strip() or sentence for sentence in sentences]
    phrases = _key_phrases(source)
    first, lengths = bare[0], habits.lengths
    typical = lengths[len(lengths) // 2]
    found = [first, *(_cut(first, length) for length in reversed(lengths))]
    found += phrases[:4]
    found += [f"{a} {word} {b}" for a, b in _pairs(phrases[:3]) for word in ("and", "for")]
    found += [f"{phrases[0]}: {_cut(first, typical)}"] if phrases else []
    # the sentences that say most of what the whole says
    weights = Counter(word for word in tokens_of(source) if word not in STOP_WORDS)
    order = sorted(range(len(bare)), key=lambda i: (-_centrality(bare[i], weights), i))
    for i in [*order[:3], len(bare) - 1]:
        found += [_cut(bare[i], length) for length in reversed(lengths)]
        found.append(bare[i])
    clauses = [clause for sentence in bare[:4] for clause in _CLAUSE.split(sentence) if len(clause.split()) > 1]
    found += [_cut(clause, lengths[-1]) for clause in clauses[:8]]
    found += [_cut(sentence, typical) for sentence in bare[1:6]]
    found += [" ".join(phrases[:n]) for n in (2, 3)]
    found += phrases[4:8]
    found.append(" ".join(dict.fromkeys(word for word, _ in weights.most_common(typical))))
    if len(source.split()) <= 60:
        found.insert(1, source)
    return [text.strip(" ,;:-–—") for text in found]


def _pairs(phrases: Sequence[str]) -> list[tuple[str, str]]:
    return [(a, b) for i, a in enumerate(phrases) for b in phrases[i + 1 :]][:2]


def _centrality(sentence: str, weights: Counter[str]) -> float:
    words = content_words(tokens_of(sentence))
    return sum(weights[word] for word in words) / (4.0 + len(words))


def _cut(text: str, length: int) -> str:
    """The first words, without function words left hanging at the end."""
    words = text.split()[: max(length, 1)]
    while len(words) > 1 and words[-1].lower().strip(",;:") in STOP_WORDS:
        words.pop()
    return " ".join(words)


def _key_phrases(source: str) -> list[str]:
    """Runs of content words, as they stand, by RAKE's score: the sum over words of degree / frequency."""
    runs: list[list[str]] = []
    for clause in re.split(r"[.!?,;:()\[\]\"\n–—]+", source):
        run: list[str] = []
        for word in [*clause.split(), ""]:
            plain = "".join(tokens_of(word))
            if plain and plain not in STOP_WORDS:
                run.append(word)
            elif run:
                runs.append(run[-4:])
                run = []
    frequency: Counter[str] = Counter()
    degree: Counter[str] = Counter()
    for run in runs:
        for word in run:
            frequency[word.lower()] += 1
            degree[word.lower()] += len(run)
    best: dict[str, float] = {}
    for run in runs:
        score = sum(degree[word.lower()] / frequency[word.lower()] for word in run)
        best.setdefault(" ".join(run), score + frequency[run[-1].lower()])
    return sorted(best, key=lambda text: -best[text])


def _placed(source: Source, places: Iterable[Place]) -> list[str]:
    """The parts of a source that stand where parts of other sources stood that were taken."""
    found = []
    for before, behind in places:
        for words, marked in zip(source.sentences, source.marked, strict=True):
            begin = marked.index(before) if before in marked[:-1] else -1
            end = marked.index(behind, begin + 2) if begin >= 0 and behind in marked[begin + 2 :] else -1
            if 0 <= begin < end - 1 <= begin + _LONGEST_PART:
                found.append(" ".join(words[begin : end - 1]).rstrip(".!?,;:"))
    return found


def _in_words_of(vocabulary: Counter[str], text: str) -> str:
    """With the short forms that a user writes, and their favourite intensifier in place of another."""
    favourite = max(_INTENSIFIERS, key=lambda word: (vocabulary[word], word))
    known = {long: short for long, short in _SHORT.items() if vocabulary[short] > vocabulary[long]}
    if vocabulary[favourite]:
        known |= {word: favourite for word in _INTENSIFIERS if word != favourite}
    return " ".join(known.get(word.lower(), word) for word in text.split())


def _joined(opening: str, ending: str, body: str) -> str:
    have = tokens_of(body)
    head, tail = tokens_of(opening), tokens_of(ending)
    if head and have[: len(head)] == head:
        opening = ""
    if tail and have[-len(tail) :] == tail:
        ending = ""
    text = f"{opening} {body}".strip()
    return text + ending if ending[:1] in (":", ",", ";", "?", "!") else f"{text} {ending}".strip()


def _styled(text: str, habits: Habits, whole: bool) -> str:
    """In the user's case; a text that is no whole message loses its full stop, unless theirs have one."""
    text = text.strip()
    if not whole or habits.stop:
        text = text.rstrip(".") if text[-1:] == "." else text
    if habits.stop and text and text[-1] not in ".!?":
        text += habits.stop
    words = text.split()
    if habits.case == "lower":
        return text if any(word.isupper() and len(word) > 1 for word in words) else text.lower()
    if habits.case == "upper":
        return text.upper()
    if habits.case == "title":
        return " ".join(_titled(word, not i) for i, word in enumerate(words))
    return text[:1].upper() + text[1:]


@lru_cache(maxsize=2**15)
def _titled(word: str, first: bool) -> str:
    if (not first and word.lower() in SMALL) or word[1:] != word[1:].lower():
        return word
    return word[:1].upper() + word[1:]


def _borrowed(profile: Profile, source: str, count: int) -> list[str]:
    """The answers of the items that share the largest part of their content words with the source."""
    words = content_words(tokens_of(source))
    shared = [len(words & own) / (len(own) + 8.0) for own in profile.words]
    order = sorted(range(len(shared)), key=lambda i: (-shared[i], i))
    return [profile.answered[i] for i in order[:count] if profile.answered[i].strip()]


# -- a language model ---------------------------------------------------------------------------------------------


class LanguageModel:
    """A causal language model that answers, with items of the profile as examples before the question.

    A label is chosen by the mean log-likelihood of its tokens; a text is continued greedily to the end of the line.
    Nothing is trained.

    Args:
        source: As for `hare_agents.decoders.models.resolve`: ``smollm2``, a folder, a hub's id.
        device: ``cpu``, ``cuda``, ...
        max_tokens: Tokens of the prompt; earlier ones are cut.

    Raises:
        ConfigError: The model cannot be had.
        UnknownNameError: No such model.
    """

    def __init__(self, source: str, device: str = "cpu", max_tokens: int = 512) -> None:
        from hare_agents.decoders.models import load_model

        self.model, self.tokenizer = load_model(source, device)
        window = getattr(self.model.config, "max_position_embeddings", None) or max_tokens + _NEW_TOKENS
        self.device, self.max_tokens = device, max(8, min(max_tokens, int(window) - _NEW_TOKENS))

    def answer(self, task: LampTask, question: Question, examples: Sequence[ProfileItem]) -> str:
        """A label, or a text of one line, never empty."""
        prompt = self._prompt(task, question, examples)
        if task.labels:
            return max(task.labels, key=lambda label: self._likelihood(prompt, label))
        return self._continued(prompt) or "none"

    def _prompt(self, task: LampTask, question: Question, examples: Sequence[ProfileItem]) -> str:
        shown = []
        for item in examples:
            asked, answered = item.fields.get(task.asked, ""), item.fields.get(task.answered, "")
            if task.asked == task.answered or task.number == 1:
                shown.append(f"This author has written: {answered}\n")
            else:
                shown.append(f"{task.asked.capitalize()}: {_cut(asked, _EXAMPLE_WORDS)}\nAnswer: {answered}\n")
        return "\n".join([*shown, f"{question.input}\nAnswer:"])

    def _ids(self, text: str) -> Any:
        return self.tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids.to(self.device)

    def _likelihood(self, prompt: str, label: str) -> float:
        import torch

        before, after = self._ids(prompt)[:, -self.max_tokens :], self._ids(" " + label)
        with torch.no_grad():
            logits = self.model(torch.cat([before, after], dim=1)).logits.float()
        chances = torch.log_softmax(logits[0, before.shape[1] - 1 : -1], dim=-1)
        return float(chances.gather(1, after[0][:, None]).mean())

    def _continued(self, prompt: str) -> str:
        import torch

        ids = self._ids(prompt)[:, -self.max_tokens :]
        with torch.no_grad():
            made = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=_NEW_TOKENS,
                do_sample=False,
                pad_token_id=self.tokenizer.eos_token_id,
            )
        text = self.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True).strip()
        return str(text.partition("\n")[0].strip())


_NEW_TOKENS = 40
_EXAMPLE_WORDS = 40
