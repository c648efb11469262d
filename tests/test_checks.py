"""Each rule of the checkers, broken once: the message must name what is wrong, where, and what to do."""

import copy
import random
import sys

import broken_agents
import broken_tasks
import gymnasium as gym
import numpy as np
import pytest
import small_tasks
from broken_agents import Sound

from hare_gym.checks import check_agent, check_task
from hare_gym.errors import ContractError, UnknownNameError

BROKEN_TASKS = {
    "NoTask": ("NoTask-v0: env.unwrapped.task is dict {'horizon': 40} after reset. Set it to a hare_gym.TaskSpec."),
    "UnversionedTask": (
        "UnversionedTask-v0: task.id is 'SmallNumeric', which has no version. Set it to the registered id."
    ),
    "NotJSON": (
        "NotJSON-v0: the task does not survive JSON: Object of type builtin_function_or_method is not "
        "JSON serializable. Keep its kwargs and texts to plain finite JSON values."
    ),
    "LosesInJSON": "LosesInJSON-v0: the task read back from its JSON has another digest. Use plain JSON values.",
    "WrongMode": (
        "WrongMode-v0: task.action_mode is 'slate', which is not among its modes ('select', "
        "'synthesize'). Add it to the class's modes, or make the task with one of them."
    ),
    "WrongObservationSpace": (
        "WrongObservationSpace-v0: its observation_space is Dict('query': Box(-1.0, 1.0, (3,), "
        "float64)), but its task implies Dict('query': Box(-inf, inf, (3,), float64), 'user': "
        "Discrete(4)). Set it to hare_gym.contract.observation_space(task)."
    ),
    "WrongActionSpace": (
        "WrongActionSpace-v0: its action_space is Discrete(7), but its task implies Discrete(6). Set it "
        "to hare_gym.contract.action_space(task)."
    ),
    "IgnoresHorizon": "IgnoresHorizon-v0: made with horizon=200, its task.horizon is 30. Use the knob.",
    "ResetRaises": "ResetRaises-v0: reset() raised KeyError: 'world'",
    "StepRaises": "StepRaises-v0 [select], round 17: step() raised ZeroDivisionError: division by zero",
    "MissingKey": (
        "MissingKey-v0 [select], reset: the observation has ['query'], but must be a dict of ['query', 'user']."
    ),
    "Float32Query": (
        "Float32Query-v0 [select], reset: observation['query'] is a float32 array of shape (3,), which "
        "is not in Box(-inf, inf, (3,), float64)."
    ),
    "NaNQuery": (
        "NaNQuery-v0 [select], round 3: observation['query'] is a float64 array of shape (3,), which is "
        "not in Box(-inf, inf, (3,), float64)."
    ),
    "InfiniteQuery": (
        "InfiniteQuery-v0 [select], reset: observation['query'] holds NaN or infinity. Give finite numbers."
    ),
    "UnknownUser": (
        "UnknownUser-v0 [select], reset: observation['user'] is int64 np.int64(4), which is not in Discrete(4)."
    ),
    "SharedObservation": (
        "SharedObservation-v0 [select], round 1: observation['query'] shares memory with the one of "
        "round 0. Return a copy."
    ),
    "SharedPool": (
        "SharedPool-v0 [slate], round 1: observation['pool'] shares memory with the one of round 0. Return a copy."
    ),
    "NothingToChoose": (
        "NothingToChoose-v0 [slate], reset: pool_mask is zero everywhere. Leave at least one item to choose."
    ),
    "NumpyReward": "NumpyReward-v0 [select], round 1: the reward is float64 np.float64(1.0). Return float(reward).",
    "LargeReward": "LargeReward-v0 [select], round 1: the reward is 2.0. Scale it to [0, 1].",
    "NaNReward": "NaNReward-v0 [select], round 1: the reward is nan. Scale it to [0, 1].",
    "Terminates": "Terminates-v0 [select], round 9: terminated is True. A session ends by truncation only.",
    "TruncatesEarly": (
        "TruncatesEarly-v0 [select], round 5: truncated is True, but the task's horizon is 200. Truncate "
        "in the round that reaches the horizon, and in no other."
    ),
    "NeverTruncates": (
        "NeverTruncates-v0 [select], round 200: truncated is False, but the task's horizon is 200. "
        "Truncate in the round that reaches the horizon, and in no other."
    ),
    "MissingInfo": (
        "MissingInfo-v0 [select], round 1: info lacks ['regret']. The runner needs ['expected_reward', "
        "'oracle_reward', 'catalogue_oracle_reward', 'regret']."
    ),
    "TextInfo": "TextInfo-v0 [select], round 1: info['regret'] is str '0.5'. Make it a float.",
    "InfiniteInfo": "InfiniteInfo-v0 [select], round 1: info['oracle_reward'] is inf. Make it finite.",
    "UnclearObserved": "UnclearObserved-v0 [select], round 1: info['observed'] is int 1. Make it True or False.",
    "NegativeMean": "NegativeMean-v0 [select], round 1: expected_reward is -0.25. It is a mean of rewards in [0, 1].",
    "LowOracle": (
        "LowOracle-v0 [select], round 1: expected_reward 0.75 is above oracle_reward 0.5. Raise the oracle."
    ),
    "LowCatalogue": (
        "LowCatalogue-v0 [select], round 1: expected_reward 0.75 is above catalogue_oracle_reward 0.5. "
        "An item was shown, so the best item is at least as good."
    ),
    "HighCatalogue": (
        "HighCatalogue-v0 [select], round 1: catalogue_oracle_reward 0.75 is above oracle_reward 0.5. "
        "The best content that could exist includes what exists."
    ),
    "OtherRegret": (
        "OtherRegret-v0 [select], round 1: regret is 0.75, but catalogue_oracle_reward minus "
        "expected_reward is 0.25, which is the regret in 'select'."
    ),
    "TaskDrifts": "TaskDrifts-v0 [select]: the task changed during a session. Only a reset may set another.",
    "HiddenCounter": (
        "HiddenCounter-v0 [select]: reset(seed=1) in the same environment gave another session from "
        "round 8 on. Draw everything from self.np_random, and set all hidden state in reset."
    ),
    "OwnEntropy": (
        "OwnEntropy-v0 [select]: reset(seed=1) in another instance gave another session from round 0 on. "
        "Draw everything from self.np_random, and set all hidden state in reset."
    ),
    "GlobalNumPy": (
        "GlobalNumPy-v0 [select]: the global generator of numpy.random was used. Draw from the one that "
        "is handed in: self.np_random in an environment, self.rng in an agent."
    ),
    "GlobalPython": (
        "GlobalPython-v0 [select]: the global generator of random was used. Draw from the one that is "
        "handed in: self.np_random in an environment, self.rng in an agent."
    ),
    "IgnoresSeed": (
        "IgnoresSeed-v0 [select]: seeds 1 and 2 gave the same session. Call super().reset(seed=seed) and "
        "draw from self.np_random."
    ),
    "RepeatsItself": (
        "RepeatsItself-v0 [select]: reset() without a seed repeated the session. Go on drawing from "
        "self.np_random unreseeded."
    ),
    "ForgetsUnseeded": (
        "ForgetsUnseeded-v0 [select]: two instances that played the same session differ after reset() "
        "without a seed. Draw everything from self.np_random."
    ),
    "AcceptsAnything": (
        "AcceptsAnything-v0 [select], round 1: None was accepted as action. Raise hare_gym.errors.ActionError."
    ),
    "RefusesOtherwise": (
        "RefusesOtherwise-v0 [select], round 1: None as action raised TypeError: only 0-dimensional "
        "arrays can be converted to Python scalars. Raise hare_gym.errors.ActionError."
    ),
    "SpendsTheRound": (
        "SpendsTheRound-v0 [select]: after refused actions the session went on differently in round 1. "
        "Check the action before anything is drawn or counted, so that the round is not spent."
    ),
    "PoorOptimum": (
        "PoorOptimum-v0 [select], round 1: optimal_action() has regret 0.857508. Return the oracle's "
        "action, or, where the oracle is only a bound, give its width as info['oracle_width']."
    ),
    "OddOptimum": (
        "OddOptimum-v0 [select]: optimal_action() gave float 6.0, which is not in Discrete(6). Return "
        "what step takes."
    ),
    "SilentRender": "SilentRender-v0 [select]: render() in 'ansi' returned str ' '. Return a text.",
    "GreyRender": (
        "GreyRender-v0 [select]: render() in 'rgb_array' returned a uint8 array of shape (4, 4). Return "
        "uint8 (height, width, 3)."
    ),
    "RenderDraws": "RenderDraws-v0 [select]: render_mode='ansi' changes the session. Rendering must only look.",
    "LongText": (
        "LongText-v0 [write], round 1: a text of more than text_length characters was accepted as "
        "action. Raise hare_gym.errors.ActionError."
    ),
    "CrampedPool": (
        "CrampedPool-v0 [slate], round 5: pool_mask leaves 1 items for a slate of 2. Leave at least as many."
    ),
    "ListOutcome": (
        "ListOutcome-v0 [slate], round 1: info['outcome'] is list [0.5]. Make it a dict of floats by name."
    ),
    "NaNOutcome": "NaNOutcome-v0 [slate], round 1: info['outcome']['dwell'] is float nan. Make it a finite float.",
    "ChangingOutcome": (
        "ChangingOutcome-v0 [slate], round 7: info['outcome'] has ['dwell'], but had ['selected', 'usable'] before. "
        "Give the same names in every round."
    ),
    "NotMeasured": (
        "NotMeasured-v0 [slate], round 1: info['clicks'] is NoneType None, but the environment lists it in measures. "
        "Make it a finite float in every round."
    ),
}

BROKEN_AGENTS = {
    ("NoModes", "SmallText-v0"): (
        "NoModes.modes is frozenset(). Make it a frozenset of some of ('select', 'slate', 'synthesize', 'write')."
    ),
    ("UnknownMode", "SmallText-v0"): (
        "UnknownMode.modes is frozenset({'choose'}). Make it a frozenset of some of ('select', 'slate', "
        "'synthesize', 'write')."
    ),
    (
        "TextOnly",
        "SmallNumeric-v0",
    ): "TextOnly plays ['write'], which none of the environments has. Name one with env_id.",
    ("WantsInfo", "SmallNumeric-v0"): (
        "WantsInfo.update takes (observation, action, reward, info). It must take (observation, action, "
        "reward): an agent sees nothing else, info least of all."
    ),
    ("WantsAnything", "SmallNumeric-v0"): (
        "WantsAnything.act takes (observation, **extra). It must take (observation): an agent sees "
        "nothing else, info least of all."
    ),
    ("RefusesAll", "SmallNumeric-v0"): "RefusesAll refused every task: Refused: it is Monday.",
    ("SkipsSuper", "SmallNumeric-v0"): (
        "SkipsSuper on SmallNumeric-v0 [select]: after reset, self.spec and self.rng are not what was "
        "given. Call super().reset(spec, rng) first."
    ),
    (
        "ActRaises",
        "SmallNumeric-v0",
    ): "ActRaises on SmallNumeric-v0 [select], round 4: act() raised IndexError: list index out of range",
    (
        "UpdateRaises",
        "SmallNumeric-v0",
    ): "UpdateRaises on SmallNumeric-v0 [select], round 150: update() raised OverflowError: too many",
    ("PastThePool", "SmallNumeric-v0"): (
        "PastThePool on SmallNumeric-v0 [select], round 1: act() returned int 6, which is not in "
        "Discrete(6). Return an int from 0 to num_items - 1."
    ),
    ("BoolAction", "SmallNumeric-v0"): (
        "BoolAction on SmallNumeric-v0 [select], round 1: act() returned bool True, which is not in "
        "Discrete(6). Return an int from 0 to num_items - 1."
    ),
    ("FloatAction", "SmallNumeric-v0"): (
        "FloatAction on SmallNumeric-v0 [select], round 1: act() returned float 2.0, which is not in "
        "Discrete(6). Return an int from 0 to num_items - 1."
    ),
    ("DoubleVector", "SmallNumeric-v0"): (
        "DoubleVector on SmallNumeric-v0 [synthesize], round 1: act() returned a float64 array of shape "
        "(3,), which is not in Box(-1.0, 1.0, (3,), float32). Return a float32 array of content_dim "
        "numbers from -1 to 1."
    ),
    ("LongVector", "SmallNumeric-v0"): (
        "LongVector on SmallNumeric-v0 [synthesize], round 1: act() returned a float32 array of shape "
        "(3,), which is not in Box(-1.0, 1.0, (3,), float32). Return a float32 array of content_dim "
        "numbers from -1 to 1."
    ),
    ("OddText", "SmallText-v0"): (
        "OddText on SmallText-v0 [write], round 1: act() returned str 'a smile 🙂', which is not in "
        "Text(60). Return a str; hare_gym.contract.sanitise makes any text fit."
    ),
    ("RepeatsItem", "SmallSlate-v0"): (
        "RepeatsItem on SmallSlate-v0 [slate], round 1: act() returned a slate with an item twice: [5, "
        "5]. Choose k of N."
    ),
    ("IgnoresMask", "SmallSlate-v0"): (
        "IgnoresMask on SmallSlate-v0 [select], round 1: act() returned [0], of which pool_mask leaves "
        "out some. Heed it."
    ),
    (
        "LearnsInAct",
        "SmallNumeric-v0",
    ): "LearnsInAct on SmallNumeric-v0 [select], round 1: act() changed state(). Learn in update() only.",
    ("ListState", "SmallNumeric-v0"): (
        "ListState on SmallNumeric-v0 [select], round 1: state() returned list [array([0., 0., 0., 0., "
        "0., 0.])]. Return a dict of arrays by name."
    ),
    ("NumberState", "SmallNumeric-v0"): (
        "NumberState on SmallNumeric-v0 [select], round 1: state()['rounds'] is int 3. Make it a NumPy array."
    ),
    ("ObjectState", "SmallNumeric-v0"): (
        "ObjectState on SmallNumeric-v0 [select], round 1: state()['history'] has dtype object, which "
        "only pickle can store. Use numbers or text."
    ),
    ("LiveState", "SmallNumeric-v0"): (
        "LiveState on SmallNumeric-v0 [select]: arrays that state() gave changed in later rounds. Return copies."
    ),
    ("ForgetsToSave", "SmallNumeric-v0"): (
        "ForgetsToSave on SmallNumeric-v0 [select], round 101: an agent that was saved after round 100 "
        "and loaded into a new one acts differently. Let state() hold everything learned, and "
        "load_state() take it all back."
    ),
    ("LoadRaises", "SmallNumeric-v0"): "LoadRaises on SmallNumeric-v0 [select]: load_state() raised KeyError: 'sums'",
    ("GlobalNumPyAgent", "SmallNumeric-v0"): (
        "GlobalNumPyAgent on SmallNumeric-v0 [select], round 1: the global generator of numpy.random was "
        "used. Draw from the one that is handed in: self.np_random in an environment, self.rng in an "
        "agent."
    ),
    ("GlobalPythonAgent", "SmallNumeric-v0"): (
        "GlobalPythonAgent on SmallNumeric-v0 [select], round 1: the global generator of random was "
        "used. Draw from the one that is handed in: self.np_random in an environment, self.rng in an "
        "agent."
    ),
    ("KeptInTheClass", "SmallNumeric-v0"): (
        "KeptInTheClass on SmallNumeric-v0 [select], round 1: in a fresh copy with the same seeds the "
        "agent acts differently. Draw from self.rng alone: no global generator, no time, no order of a "
        "set."
    ),
    ("RemembersTheLast", "SmallNumeric-v0"): (
        "RemembersTheLast on SmallNumeric-v0 [select], round 2: after a second reset the agent acts "
        "differently. Make reset() forget everything."
    ),
    ("WritesIntoObservation", "SmallNumeric-v0"): (
        "WritesIntoObservation on SmallNumeric-v0 [select], round 1: the agent wrote into the "
        "observation, the action or the outcome. Copy before changing."
    ),
    ("ShortProbabilities", "SmallNumeric-v0"): (
        "ShortProbabilities on SmallNumeric-v0 [select], after round 200: probabilities() returned a "
        "float64 array of shape (3,). Return an array of shape (6,) or None."
    ),
    ("NegativeProbabilities", "SmallNumeric-v0"): (
        "NegativeProbabilities on SmallNumeric-v0 [select], after round 200: probabilities() holds -0.5. "
        "A probability is at least 0."
    ),
    ("SmallProbabilities", "SmallNumeric-v0"): (
        "SmallProbabilities on SmallNumeric-v0 [select], after round 200: probabilities() sum to 0.75. "
        "Make them sum to 1."
    ),
    ("MaskedProbabilities", "SmallSlate-v0"): (
        "MaskedProbabilities on SmallSlate-v0 [slate], after round 200: probabilities() gives a chance "
        "to items that pool_mask leaves out. Heed it."
    ),
    ("DiagnosticsList", "SmallNumeric-v0"): (
        "DiagnosticsList on SmallNumeric-v0 [select], after round 200: diagnostics() returned list "
        "[1.0]. Return a dict of floats."
    ),
    ("DiagnosticsNaN", "SmallNumeric-v0"): (
        "DiagnosticsNaN on SmallNumeric-v0 [select], after round 200: diagnostics()['entropy'] is float "
        "nan. Make it a finite float."
    ),
    ("DiagnosticsText", "SmallNumeric-v0"): (
        "DiagnosticsText on SmallNumeric-v0 [select], after round 200: diagnostics()['phase'] is str "
        "'exploring'. Make it a finite float."
    ),
    ("ShortBatch", "SmallNumeric-v0"): (
        "ShortBatch on SmallNumeric-v0 [select], after round 200: act_batch() returned 2 actions for 3 observations."
    ),
    ("WrongBatch", "SmallNumeric-v0"): (
        "WrongBatch on SmallNumeric-v0 [select], after round 200, act_batch: act() returned int64 "
        "np.int64(7), which is not in Discrete(6). Return an int from 0 to num_items - 1."
    ),
    ("LearnsInDiagnostics", "SmallNumeric-v0"): (
        "LearnsInDiagnostics on SmallNumeric-v0 [select], after round 200: probabilities(), "
        "diagnostics() or act_batch() changed state(). Learn in update() only."
    ),
    ("UpdateBatchRaises", "SmallNumeric-v0"): (
        "UpdateBatchRaises on SmallNumeric-v0 [select], after round 200: update_batch() raised "
        "NotImplementedError: later"
    ),
    ("NeedsReward", "SmallNumeric-v0"): (
        "NeedsReward on SmallNumeric-v0 [select], after round 200: update_batch() raised "
        "ZeroDivisionError: float division by zero"
    ),
    ("WantsTheReward", "SmallSlate-v0"): (
        "WantsTheReward.feedback takes (observation, action, outcome, reward). It must take (observation, action, "
        "outcome): an agent sees nothing else, info least of all."
    ),
    ("FeedbackRaises", "SmallSlate-v0"): (
        "FeedbackRaises on SmallSlate-v0 [slate], round 1: feedback() raised KeyError: 'dwell'"
    ),
    ("FeedbackBatchRaises", "SmallSlate-v0"): (
        "FeedbackBatchRaises on SmallSlate-v0 [slate], after round 200: feedback_batch() raised "
        "NotImplementedError: later"
    ),
    ("WritesIntoOutcome", "SmallSlate-v0"): (
        "WritesIntoOutcome on SmallSlate-v0 [slate], round 1: the agent wrote into the observation, the action or "
        "the outcome. Copy before changing."
    ),
    ("LosesFeedback", "SmallSlate-v0"): (
        "LosesFeedback on SmallSlate-v0 [slate], round 101: an agent that was saved after round 100 and loaded into "
        "a new one acts differently. Let state() hold everything learned, and load_state() take it all back."
    ),
}

for _name in BROKEN_TASKS:
    gym.register(id=f"{_name}-v0", entry_point=f"broken_tasks:{_name}")


def fakes(module, base):
    return {name for name, value in vars(module).items() if isinstance(value, type) and issubclass(value, base)}


def test_every_fake_is_tried():
    bases = {"Changed", "FixedInfo", "NumericTask", "SlateTask", "TextTask"}
    assert fakes(broken_tasks, small_tasks.SmallTask) - bases == set(BROKEN_TASKS)
    assert fakes(broken_agents, Sound) - {"Sound"} == {name for name, _ in BROKEN_AGENTS}


@pytest.mark.parametrize("name", BROKEN_TASKS)
def test_a_broken_task_is_named(name):
    with pytest.raises(ContractError) as caught:
        check_task(gym.make(f"{name}-v0", disable_env_checker=True))
    assert str(caught.value) == BROKEN_TASKS[name]


@pytest.mark.parametrize(("name", "id"), BROKEN_AGENTS)
def test_a_broken_agent_is_named(name, id):
    with pytest.raises(ContractError) as caught:
        check_agent(getattr(broken_agents, name)(), id)
    assert str(caught.value) == BROKEN_AGENTS[name, id]


def test_a_sound_agent_passes_everywhere():
    check_agent(Sound(), small_tasks.SMALL_TASKS)


def test_the_default_tasks_are_those_of_the_registry():
    check_agent(Sound())
    check_agent(broken_agents.TextOnly())
    with pytest.raises(
        ContractError, match=r"^RepeatsItem on HarePrompts-v0 \[slate\], round 1: act\(\) returned a int"
    ):
        check_agent(broken_agents.RepeatsItem())


def test_an_environment_needs_a_spec():
    with pytest.raises(ContractError) as caught:
        check_task(small_tasks.NumericTask())
    assert str(caught.value) == (
        "NumericTask has no spec. Register it and make it with gymnasium.make, so that others can make the same one."
    )


def test_an_id_needs_a_version():
    gym.register(id="Unversioned", entry_point="small_tasks:NumericTask")
    with pytest.raises(ContractError) as caught:
        check_task(gym.make("Unversioned"))
    assert str(caught.value) == (
        "The id 'Unversioned' has no version. End it in -v0: a published id never changes behaviour."
    )


def test_a_spec_must_serialise():
    gym.register(id="Callable-v0", entry_point=small_tasks.NumericTask)
    with pytest.raises(ContractError) as caught:
        check_task(gym.make("Callable-v0"))
    assert str(caught.value).startswith("Callable-v0: spec.to_json() raised ValueError: ")
    assert str(caught.value).endswith(
        "Register a string as entry point ('package.module:Class') and give knobs that are plain JSON values."
    )


@pytest.mark.parametrize("thing", [Sound, None, "linucb"], ids=repr)
def test_check_agent_wants_an_agent(thing):
    with pytest.raises(ContractError, match=r"^check_agent wants an instance of a subclass of hare_gym\.Agent, not "):
        check_agent(thing)


def test_an_unknown_environment_is_not_the_agents_fault():
    with pytest.raises(UnknownNameError, match="Did you mean 'HareBilinear-v0'"):
        check_agent(Sound(), "HareBilinaer-v0")


class SavesText(Sound):
    def state(self):
        return {**super().state(), "name": np.array("sound")}


class HoldsAModule(Sound):
    library = None

    def __init__(self):
        self.library = sys.modules["random"]


@pytest.mark.parametrize("cls", [SavesText, HoldsAModule])
def test_what_is_allowed(cls):
    check_agent(cls(), "SmallNumeric-v0")


def test_checking_leaves_everything_as_it_was():
    agent, env = Sound(), gym.make("SmallNumeric-v0")
    env.reset(seed=5)
    numpy_state, python_state = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    twin = copy.deepcopy(env.unwrapped.np_random)
    check_agent(agent, "SmallNumeric-v0")
    check_task(env)
    assert vars(agent) == {}
    assert env.unwrapped.t == 0
    assert env.unwrapped.np_random.random() == twin.random()
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    assert random.getstate() == python_state
