"""The one door for environments and agents, and what it says to those who miss it."""

import sys
import types
import warnings
from importlib.metadata import EntryPoint

import gymnasium as gym
import pytest

import hare_gym
from hare_gym import registry
from hare_gym.errors import ConfigError, UnknownNameError


class NotAnAgent:
    pass


class Fussy(hare_gym.Agent):
    def __init__(self, width=1):
        self.width = width

    def act(self, observation):
        return 0


def test_the_built_ins_are_there():
    assert {"HareBilinear-v0", "HareLinear-v0", "HareClassification-v0", "HareReplay-v0"} <= set(
        hare_gym.environment_ids()
    )
    assert {"random", "oracle", "linucb", "lints", "sb3"} <= set(hare_gym.agent_names())
    assert hare_gym.environment_ids() == sorted(hare_gym.environment_ids())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: hare_gym.make_environment("HareBilinaer-v0"),
            "Unknown environment 'HareBilinaer-v0'. Did you mean 'HareBilinear-v0'? List them with: hare list envs",
        ),
        (
            lambda: hare_gym.make_agent("linucbb"),
            "Unknown agent 'linucbb'. Did you mean 'linucb'? List them with: hare list agents",
        ),
        (
            lambda: hare_gym.make_agent("no_such_module:Agent"),
            "Agent 'no_such_module:Agent': there is no module 'no_such_module'. "
            "Install its package, or run from the folder that holds it with PYTHONPATH=.",
        ),
        (
            lambda: hare_gym.make_agent("test_registry:Fusy"),
            "Unknown class in test_registry 'Fusy'. Did you mean 'Fussy'?",
        ),
        (
            lambda: hare_gym.make_environment("HareBilinear-v0", nonlinearty=0.5),
            "Unknown knob of HareBilinear 'nonlinearty'. Did you mean 'nonlinearity'?",
        ),
    ],
    ids=["environment", "agent", "module", "class", "knob"],
)
def test_an_unknown_name_gets_a_suggestion(call, message):
    with pytest.raises(UnknownNameError) as caught:
        call()
    assert str(caught.value) == message


def test_a_path_must_lead_to_an_agent():
    with pytest.raises(ConfigError) as caught:
        hare_gym.agent_class("test_registry:NotAnAgent")
    assert str(caught.value) == (
        "Agent 'test_registry:NotAnAgent' is <class 'test_registry.NotAnAgent'>, "
        "which is not a subclass of hare_gym.Agent."
    )


def test_a_strangers_agent_is_made_by_its_path():
    assert hare_gym.make_agent("test_registry:Fussy", width=3).width == 3
    with pytest.raises(ConfigError) as caught:
        hare_gym.make_agent("test_registry:Fussy", depth=3)
    assert str(caught.value) == (
        "Agent 'test_registry:Fussy' does not accept ['depth']: "
        "Fussy.__init__() got an unexpected keyword argument 'depth'."
    )


def test_registering_twice_changes_nothing():
    before = gym.registry["HareLinear-v0"]
    registry.register_environment("HareLinear-v0", "somewhere:Else")
    assert gym.registry["HareLinear-v0"] is before


def test_a_registered_environment_joins_the_list(monkeypatch):
    monkeypatch.setattr(registry, "_environments", dict(registry._environments))
    registry.register_environment("Joined-v0", "small_tasks:NumericTask", kwargs={"horizon": 3})
    try:
        assert "Joined-v0" in hare_gym.environment_ids()
        assert hare_gym.make_environment("Joined-v0").unwrapped.task.horizon == 3
    finally:
        del gym.registry["Joined-v0"]


def plugin(monkeypatch, register):
    module = types.ModuleType("a_strangers_package")
    module.register = register
    monkeypatch.setitem(sys.modules, "a_strangers_package", module)
    entry = EntryPoint("stranger", "a_strangers_package:register", registry.ENVIRONMENT_GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry])


def test_an_installed_package_is_asked_to_register(monkeypatch):
    called = []
    plugin(monkeypatch, lambda: called.append(True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.load_environment_plugins()
    assert called == [True]


def test_a_broken_package_takes_nothing_down(monkeypatch):
    def register():
        raise RuntimeError("half installed")

    plugin(monkeypatch, register)
    with pytest.warns(UserWarning) as caught:
        registry.load_environment_plugins()
    assert [str(warning.message) for warning in caught] == [
        "Environments of 'a_strangers_package:register' were not registered: RuntimeError('half installed')"
    ]


@pytest.mark.parametrize("name", hare_gym.agent_names())
def test_every_agents_entry_point_loads(name):
    assert issubclass(hare_gym.agent_class(name), hare_gym.Agent)
