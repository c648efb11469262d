"""How a session looks: one line of text, or one picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hare_gym.contract import TaskSpec

History = Sequence[tuple[float, float]]


def session_text(task: TaskSpec, history: History, last: dict[str, Any]) -> str:
    """The last round and the sums so far, in one or two lines."""
    head = f"{task.id} [{task.action_mode}] round {len(history)}/{task.horizon}"
    if not history:
        return f"{head}: nothing played yet\n"
    rewards, regrets = np.array(history).T
    action = last["action"]
    shown = f"item {action}" if task.action_mode == "select" else np.array2string(np.asarray(action), precision=2)
    return (
        f"{head}: user {last['user']} got {shown}, reward {last['reward']:.3f} "
        f"(expected {last['expected_reward']:.3f}, best {last['oracle_reward']:.3f})\n"
        f"  mean reward {rewards.mean():.3f}, cumulative regret {regrets.sum():.2f}\n"
    )


def session_image(task: TaskSpec, history: History, last: dict[str, Any]) -> NDArray[np.uint8]:
    """Cumulative regret and mean reward over the session's rounds, 640 x 360 pixels."""
    # drawing is the one thing that needs matplotlib, and importing it takes longer than the rest together
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    rewards, regrets = np.array(history).reshape(-1, 2).T
    rounds = np.arange(1, len(history) + 1)
    left.plot(rounds, np.cumsum(regrets), color="#1f5fa8")
    left.set(title="cumulative regret", xlabel="round")
    right.plot(rounds, np.cumsum(rewards) / rounds, color="#b3541e")
    right.set(title="mean reward", xlabel="round", ylim=(0, 1))
    figure.suptitle(session_text(task, history, last).splitlines()[0], fontsize=8, parse_math=False)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[..., :3].copy()
