"""Adaptive prompts: a few prompts for a visit, chosen by what resonated in visits like it. Works without the gym.

    from hare_agents.prompts import Context, Library, PromptEngine, PromptsConfig

    engine = PromptEngine(Library.load("prompts.yaml"), PromptsConfig.load("config.yaml"))
    slate = engine.recommend(Context(lens="skeptic", topic="ai-safety", entropy=0.8), now=time.time())

``hare_agents.prompts.telemetry`` keeps the events in a database (extra ``prompts``).
"""

from hare_agents.prompts.config import PromptsConfig
from hare_agents.prompts.context import Context, encode
from hare_agents.prompts.engine import PromptEngine, Recommendation
from hare_agents.prompts.events import Completion, EntropyChange, Impression, Selection, event_of
from hare_agents.prompts.library import Library, Prompt

__all__ = [
    "Completion",
    "Context",
    "EntropyChange",
    "Impression",
    "Library",
    "Prompt",
    "PromptEngine",
    "PromptsConfig",
    "Recommendation",
    "Selection",
    "encode",
    "event_of",
]
