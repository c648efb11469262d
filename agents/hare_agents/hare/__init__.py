"""HARE: Hybrid Attention-Reinforced Exploration.

`HARE` is the learner, usable on its own; `HAREAgent` is the same behind the gym's contract.
"""

from hare_agents.hare.agent import HAREAgent
from hare_agents.hare.config import HAREConfig
from hare_agents.hare.model import HARE

__all__ = ["HARE", "HAREAgent", "HAREConfig"]
