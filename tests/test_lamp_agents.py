"""Writers of LaMP answers: what they propose, what they retrieve, and that those inside an answerer learn."""

import math

import gymnasium as gym
import numpy as np
import pytest

from hare_agents.answering import Answering, prompt_of
from hare_agents.decoders.answers import LanguageModel, Proposer
from hare_agents.decoders.habits import Habits, Manner, Profile, Source, profile_of
from hare_agents.decoders.support import Okapi, hints, praise_in
from hare_agents.retrieval import BM25, Dense, MostRecent, PlainAnswer, RandomProfile, RecencyWeighted, plain_label
from hare_gym.contract import stack_actions
from hare_gym.errors import ConfigError, UnknownNameError
from hare_gym.lamp.metrics import score
from hare_gym.lamp.reading import as_seen, question_of
from hare_gym.lamp.synthetic import World
from hare_gym.lamp.tasks import OLD_TASK_2, TASKS, ProfileItem, Question, query_of
from hare_gym.registry import make_agent

RETRIEVERS = (BM25, Dense, MostRecent, PlainAnswer, RandomProfile, RecencyWeighted)


def items(*fields, dates=None):
    return tuple(ProfileItem(str(k), each, None if dates is None else dates[k]) for k, each in enumerate(fields))


def headlines(*pairs):
    return items(*({"text": text, "title": title} for text, title in pairs))


def rng():
    return np.random.default_rng(0)


def env_of(number, **knobs):
    return gym.make(f"hare_gym:HareLaMP{number}-v0", action_mode="write", **knobs)


def play(agent, number, rounds, seed=0, **knobs):
    env = env_of(number, horizon=rounds, **knobs)
    observation, _ = env.reset(seed=seed)
    agent.reset(env.unwrapped.task, np.random.default_rng(seed))
    rewards, answers = [], []
    for _ in range(rounds):
        answer = agent.act(observation)
        after, reward, _, _, _ = env.step(answer)
        agent.update(observation, answer, reward)
        rewards.append(reward)
        answers.append(answer)
        observation = after
    env.close()
    return np.array(rewards), answers


class TestHabits:
    source = Source("The old mill burned down. Mayor Smith has promised a new bridge by May.")

    def test_alignment_finds_frame_and_place(self):
        frame, place = self.source.aligned("Why the new bridge: What You Need to Know")
        assert frame == ("why the", ": what you need to know")
        assert place == ("a", "by")

    def test_alignment_at_the_ends_of_a_sentence(self):
        assert self.source.aligned("old mill burned") == (("", ""), ("the", "down"))
        assert self.source.aligned("Smith promised a new bridge by May")[1] == ("mayor", "$")

    def test_what_shares_no_word_is_not_aligned(self):
        assert self.source.aligned("Something Else") is None
        assert Source("").aligned("anything") is None

    def test_traits_count_the_same_making(self):
        sources = ["Rain has flooded the north road.", "Snow has closed the south pass.", "Wind has bent the masts."]
        manner = Manner(["Why Rain", "Why Snow", "Masts bent"], sources)
        traits = manner.traits(["Why Fire", "Fire", "fog banks"], "Fire has burned the east barn.")
        assert np.allclose(traits[0], [2 / 3, 2 / 3, 4 / 9, 2 / 3 / 2])  # "why" stands in two answers of three
        assert np.allclose(traits[1], [1 / 3, 2 / 3, 2 / 9, 0.0])  # "Masts bent" has no frame either
        assert np.allclose(traits[2], 0.0)

    def test_texts_without_sources_are_told_by_their_ends(self):
        manner = Manner(["omg so tired lol", "omg so happy lol", "nothing here"], None)
        assert np.allclose(manner.traits(["omg so hungry lol"], "hungry")[0, :3], [2 / 3, 2 / 3, 4 / 9])

    def test_habits_of_nothing_are_the_defaults(self):
        assert Habits.of([], Manner([], [])) == Habits()
        assert Habits.of(["", " "], Manner(["", " "], None)) == Habits()

    def test_case_stop_and_lengths(self):
        texts = ["why cats sleep.", "why dogs bark all night long.", "why cows chew."]
        habits = Habits.of(texts, Manner(texts, None))
        assert (habits.case, habits.stop) == ("lower", ".")
        assert habits.lengths[0] == 3 and habits.lengths[-1] >= 4
        assert ("why", "") in habits.frames

    def test_a_profile_is_remembered_by_its_object(self):
        task, one = TASKS[4], headlines(("The cat sat.", "Cat Sat"))
        assert profile_of(task, one) is profile_of(task, one)
        assert profile_of(task, headlines(("The cat sat.", "Cat Sat"))) is not profile_of(task, one)

    def test_age_is_by_date_and_else_by_place(self):
        dated = items({"text": "a"}, {"text": "b"}, {"text": "c"}, dates=["2020-02-10", "2019", "2020-11-01"])
        assert Profile(TASKS[7], dated).age.tolist() == [1, 2, 0]
        assert Profile(TASKS[7], items({"text": "a"}, {"text": "b"})).age.tolist() == [1, 0]

    def test_the_documents_are_those_of_the_published_scripts(self):
        fields = {"title": "T", "text": "X", "abstract": "A", "description": "D", "tag": "G", "category": "C"}
        found = {task.number: Profile(task, items(fields)).documents for task in TASKS.values()}
        assert found == {1: ["T A"], 2: ["D"], 3: ["X"], 4: ["T X"], 5: ["T A"], 6: ["X"], 7: ["X"]}
        assert Profile(OLD_TASK_2, items(fields)).documents == ["T X"]


class TestProposer:
    def test_labels_are_proposed_as_they_are(self):
        assert Proposer()(TASKS[3], Question("", "review: fine")) == ("1", "2", "3", "4", "5")

    def test_a_new_text_is_cut_and_framed_as_the_profile_s_were(self):
        profile = headlines(
            ("The board has hired a new coach. Fans cheer.", "Why a new coach"),
            ("The city has built a wide bridge. Cars wait.", "Why a wide bridge"),
        )
        question = Question(
            "", "Generate a headline for the following article: The club has lost a big match. Rain.", profile
        )
        proposals = Proposer()(TASKS[4], question)
        assert "Why a big match" in proposals or "Why big match" in proposals
        assert any("lost" in text for text in proposals)

    @pytest.mark.parametrize("number", [4, 5, 6, 7])
    def test_proposals_are_some_distinct_and_near_the_gold(self, number):
        world = World(number, 6, 16, seed=5)
        best = []
        for user in range(6):
            question = world.question(user, 0)
            proposals = Proposer(count=40)(world.task, as_seen(world.task, question, 4096))
            assert 10 <= len(proposals) <= 40
            assert len({tuple(text.lower().split()) for text in proposals}) == len(proposals)
            best.append(max(score(world.task, question.output, text) for text in proposals))
        assert np.mean(best) > 0.65

    @pytest.mark.parametrize("input", ["", "article:", "article: !!!", "no mark at all", "article: Word"])
    def test_poor_inputs_have_a_proposal(self, input):
        for number in (4, 5, 6, 7):
            proposals = Proposer()(TASKS[number], Question("", input))
            assert proposals and all(text for text in proposals)

    def test_short_forms_and_the_favourite_intensifier_are_taken_over(self):
        profile = items({"text": "u are super nice"}, {"text": "super tired, r u there"}, {"text": "c u tmrw"})
        input = (
            "Paraphrase the following tweet without any explanation before or after it: I really miss you tomorrow."
        )
        assert any(
            text.lower().startswith("i super miss u tmrw")
            for text in Proposer()(TASKS[7], Question("", input, profile))
        )

    def test_its_knobs_are_checked(self):
        with pytest.raises(
            UnknownNameError, match=r"Unknown knob of the proposer of answers 'cuont'. Did you mean 'count'"
        ):
            Proposer(cuont=3)
        with pytest.raises(ConfigError, match=r"framed must be at most 1, not 2"):
            Proposer(framed=2)

    @pytest.mark.parametrize("task", [TASKS[2], TASKS[3], TASKS[4], TASKS[5], TASKS[6], OLD_TASK_2])
    def test_a_prompt_s_query_is_the_text(self, task):
        assert query_of(task, prompt_of(task, "some words")) == "some words"


class TestOkapi:
    """Against the published formula, by hand: k1 = 1.5, b = 0.75, a floor of 0.25 of the mean idf."""

    texts = ("a b b", "a c", "a d d d", "e")

    def test_scores(self):
        idf = {1: math.log(3.5) - math.log(1.5), 3: math.log(1.5) - math.log(3.5)}
        mean = (4 * idf[1] + idf[3]) / 5  # b, c, d and e are in one text, a is in three
        length = (3 + 2 + 4 + 1) / 4
        norm = [1.5 * (0.25 + 0.75 * n / length) for n in (3, 2, 4, 1)]
        found = Okapi(self.texts).scores("b a a nowhere")
        rare = idf[1] * 2 * 2.5 / (2 + norm[0])
        common = [2 * 0.25 * mean * 2.5 / (1 + norm[i]) for i in range(3)]
        assert np.allclose(found, [rare + common[0], common[1], common[2], 0.0], rtol=1e-12)

    def test_nothing_to_find(self):
        assert Okapi(()).scores("a").shape == (0,)
        assert Okapi(("", "")).scores("a").tolist() == [0.0, 0.0]


class TestRetrieval:
    def retrieved(self, agent, number, profile, input):
        env = env_of(number)
        agent.reset(env.unwrapped.task, rng())
        return agent.retrieve(profile_of(TASKS[number], profile), Question("", input, profile), {})

    reviews = items(
        {"text": "the lamp broke at once", "score": "1"},
        {"text": "a kettle that boils fast", "score": "5"},
        {"text": "the lamp is bright", "score": "4"},
    )

    def test_most_recent(self):
        assert self.retrieved(MostRecent(k=2), 3, self.reviews, "review: x") == [2, 1]

    def test_bm25_and_dense_find_the_words(self):
        assert self.retrieved(BM25(k=1), 3, self.reviews, "review: kettle boils") == [1]
        assert self.retrieved(Dense(k=1), 3, self.reviews, "review: kettle boils") == [1]

    def test_recency_weights_what_is_as_like(self):
        assert self.retrieved(RecencyWeighted(k=1, half_life=0.5), 3, self.reviews, "review: lamp") == [2]
        assert self.retrieved(RecencyWeighted(k=1, half_life=1e6), 3, self.reviews, "review: broke at once") == [0]

    def test_random_items_differ_from_round_to_round(self):
        agent = RandomProfile(k=1)
        profile = items(*({"text": f"w{k}", "score": "3"} for k in range(30)))
        first = self.retrieved(agent, 3, profile, "review: x")
        others = [agent.retrieve(profile_of(TASKS[3], profile), Question("", "", profile), {}) for _ in range(9)]
        assert len({tuple(each) for each in [first, *others]}) > 3

    def test_ratings_are_voted_and_read(self):
        agent = MostRecent(k=3, cues=0.0)
        agent.reset(env_of(3).unwrapped.task, rng())
        profile = profile_of(TASKS[3], self.reviews)
        # weights 1, 1/2, 1/3 of 4, 5 and 1
        assert agent._vote(TASKS[3], Question("", "review: x"), profile, [2, 1, 0]) == str(
            round((4 + 2.5 + 1 / 3) / (11 / 6))
        )
        agent = MostRecent(k=3, cues=4.0)
        agent.reset(env_of(3).unwrapped.task, rng())
        assert agent._vote(TASKS[3], Question("", "review: terrible awful waste"), profile, [2, 1, 0]) == "1"

    def test_a_score_that_is_no_number_counts_as_the_middle(self):
        agent = MostRecent(k=1, cues=0.0)
        agent.reset(env_of(3).unwrapped.task, rng())
        odd = profile_of(TASKS[3], items({"text": "a", "score": "many"}))
        assert agent._vote(TASKS[3], Question("", "review: x"), odd, [0]) == "3"

    def test_tags_are_voted(self):
        agent = MostRecent(k=3, cues=0.0)
        agent.reset(env_of(2).unwrapped.task, rng())
        tags = items(*({"tag": tag, "description": "d"} for tag in ("comedy", "action", "action", "not a tag")))
        profile = profile_of(TASKS[2], tags)
        assert agent._vote(TASKS[2], Question("", "description: x"), profile, [3, 2, 0]) == "action"

    def test_citation_follows_the_retrieved_items(self):
        profile = items(
            {"title": "Deep nets for images", "abstract": "We segment images."},
            {"title": "Images and pixels", "abstract": "Pixels of images."},
        )
        input = (
            'For an author who has written the paper with the title "On X", which reference is related? '
            '[1]: "Cows and milk" [2]: "Segment images"'
        )
        agent = BM25(k=2)
        agent.reset(env_of(1).unwrapped.task, rng())
        assert agent._citation(TASKS[1], Question("", input, profile), profile_of(TASKS[1], profile), [0, 1]) == "[2]"

    def test_words_that_praise_and_hint(self):
        assert praise_in("great and wonderful") == 2 / 3
        assert praise_in("not great") == -1 / 2
        assert praise_in("a thing") == 0.0
        found = hints(TASKS[2], "a wizard and a dragon fall in love")
        assert found["fantasy"] == max(found.values()) and sum(found.values()) == pytest.approx(1.0)
        assert set(hints(TASKS[2], "").values()) == {0.0}

    def test_without_a_profile(self):
        assert plain_label(TASKS[3], Question("", "review: excellent, perfect, superb"), rng()) == "5"
        assert plain_label(TASKS[2], Question("", "description: a wizard and a dragon"), rng()) == "fantasy"
        input = 'the title "Bees at night", which? [1]: "Cows" [2]: "Night of bees"'
        assert plain_label(TASKS[1], Question("", input), rng()) == "[2]"
        assert plain_label(TASKS[1], Question("", "in another layout"), rng()) in TASKS[1].labels

    @pytest.mark.parametrize("cls", RETRIEVERS, ids=lambda cls: cls.__name__)
    def test_hyperparameters_are_checked(self, cls):
        with pytest.raises(UnknownNameError, match=rf"Unknown knob of {cls.owner} 'kk'"):
            cls(kk=2)
        with pytest.raises(ConfigError, match="k must be at least 1, not 0"):
            cls(k=0)

    @pytest.mark.parametrize("cls", RETRIEVERS, ids=lambda cls: cls.__name__)
    @pytest.mark.parametrize("number", range(1, 8))
    def test_they_play_every_task_the_same_way_twice(self, cls, number):
        one, two = play(cls(), number, 6, seed=3), play(cls(), number, 6, seed=3)
        assert one[1] == two[1]
        assert all(isinstance(answer, str) and answer for answer in one[1])
        if TASKS[number].labels:
            assert set(one[1]) <= set(TASKS[number].labels)

    def test_a_task_of_another_kind_is_refused(self):
        task = gym.make("hare_gym:HareLinear-v0").unwrapped.task
        message = "agent 'bm25' answers LaMP's questions from their words and profiles, and HareLinear-v0 in the mode"
        with pytest.raises(ConfigError, match=message):
            BM25().reset(task, rng())

    def test_a_profile_beats_none_and_chance(self):
        """The baseline must be a baseline: over the tasks, with a profile, without one, and at random."""
        lead = []
        for number in (2, 3, 4, 6):
            rag, plain, chance = (
                np.mean(play(make_agent(name, **knobs), number, 60, seed=1)[0])
                for name, knobs in (
                    ("bm25", {"k": 16, "likeness": 10.0}),
                    ("plain", {}),
                    ("answerer", {"agent": "random", "rehearsed": 0}),
                )
            )
            lead.append(rag - plain)
            assert rag > chance
        assert np.mean(lead) > 0.05


class TestAnswering:
    def test_hare_learns_on_a_task_of_labels(self):
        rewards, answers = play(
            Answering(agent_kwargs={"posterior_bonus": 0.3, "warmup": 64}), 3, 150, seed=1, num_users=4
        )
        assert set(answers) <= set(TASKS[3].labels)
        assert rewards[-75:].mean() > 0.75

    @pytest.mark.parametrize("inner", ["linucb", "lints", "neural-ucb", "epsilon-greedy", "random"])
    def test_selecting_agents_play_unchanged(self, inner):
        rewards, answers = play(Answering(agent=inner, rehearsed=1), 4, 5, num_users=2)
        assert len(answers) == 5 and all(answers) and rewards.min() >= 0.0

    @pytest.mark.parametrize(("number", "practised"), [(4, 6), (3, 6), (1, 0), (7, 0)])
    def test_practice_on_the_profile_at_a_user_s_first_reward(self, number, practised):
        env = env_of(number, horizon=10, num_users=1)
        observation, _ = env.reset(seed=0)
        agent = Answering(agent="linucb", rehearsed=3, attempts=2)
        agent.reset(env.unwrapped.task, rng())
        taught = []
        update = agent.agent.update
        agent.agent.update = lambda *round: (taught.append(round), update(*round))
        answer = agent.act(observation)
        agent.update(observation, answer, 0.25)
        assert practised // 2 <= len(taught) - 1 <= practised  # what was drawn may be what was chosen
        assert taught[-1][2] == 0.25 and all(0.0 <= reward <= 1.0 for _, _, reward in taught)
        agent.update(observation, answer, 0.5)
        assert len(taught) <= practised + 2 and taught[-1][2] == 0.5

    @pytest.mark.parametrize("number", [1, 2, 3, 4, 5, 6, 7])
    def test_what_retrieval_would_answer_is_marked(self, number):
        env = env_of(number, horizon=10)
        observation, _ = env.reset(seed=1)
        agent, retrieval = Answering(agent="linucb", rehearsed=0), BM25(k=99, likeness=10.0, cues=1.5)
        agent.reset(env.unwrapped.task, rng())
        retrieval.reset(env.unwrapped.task, rng())
        answers, inner = agent._round(observation)
        marked = [answer for answer, y in zip(answers, inner["pool"], strict=False) if y[-1] > 0.0]
        assert retrieval.act(observation) in marked
        assert len(answers) == (len(TASKS[number].labels) or agent.config.shortlist)

    def test_agents_share_what_they_have_read(self):
        env = env_of(4, horizon=10)
        observation, _ = env.reset(seed=0)
        question = question_of(TASKS[4], observation)
        one, two, other = (
            Answering(agent=name, shortlist=n) for name, n in (("linucb", 8), ("hare", 8), ("hare", 4))
        )
        for agent in (one, two, other):
            agent.reset(env.unwrapped.task, rng())
        assert one._read(question) is two._read(question)
        assert other._read(question).answers == one._read(question).answers[:4]

    def test_it_learns_what_was_written_even_if_it_did_not_propose_it(self):
        env = env_of(4, horizon=10)
        observation, _ = env.reset(seed=0)
        agent = Answering(agent="linucb", rehearsed=0)
        agent.reset(env.unwrapped.task, rng())
        inner, k = agent._taught(observation, "something nobody proposed")
        assert k == 0 and inner["pool_mask"].sum() == 1
        before = {name: array.copy() for name, array in agent.state().items()}
        agent.update(observation, "something nobody proposed", 0.5)
        assert any(not np.array_equal(array, before.get(name)) for name, array in agent.state().items())

    @pytest.mark.parametrize("number", [1, 3, 6, 7])
    def test_what_the_inner_agent_sees(self, number):
        env = env_of(number, horizon=10)
        observation, _ = env.reset(seed=0)
        agent = Answering(agent="linucb", rehearsed=0, topic=0.5)
        agent.reset(env.unwrapped.task, rng())
        answers, inner = agent._round(observation)
        spec = agent.agent.spec
        assert inner["pool"].shape == (spec.num_items, spec.content_dim)
        assert inner["pool_mask"].sum() == len(answers)
        assert (np.linalg.norm(inner["pool"], axis=1) <= 1.0 + 1e-9).all()
        assert np.allclose(inner["query"], 0.5 * observation["query"])

    def test_a_batch_is_as_the_rounds_one_by_one(self):
        env = env_of(3, horizon=10)
        first, _ = env.reset(seed=0)
        rounds = [first] + [env.step("3")[0] for _ in range(3)]
        batch = {
            name: np.stack([each[name] for each in rounds])
            if not isinstance(first[name], str)
            else tuple(each[name] for each in rounds)
            for name in first
        }
        one, many = (Answering(agent="linucb", agent_kwargs={"alpha": 0.1}, rehearsed=0) for _ in range(2))
        for agent in (one, many):
            agent.reset(env.unwrapped.task, rng())
        answers = many.act_batch(batch)
        assert answers == stack_actions([one.act(each) for each in rounds])
        many.update_batch(batch, answers, np.array([0.1, 0.9, 0.5, 0.4]))
        for each, answer, reward in zip(rounds, answers, (0.1, 0.9, 0.5, 0.4), strict=True):
            one.update(each, answer, reward)
        assert many.act(first) == one.act(first)

    def test_state_comes_back(self):
        agent = Answering(agent="linucb", rehearsed=0)
        play(agent, 3, 20)
        state = agent.state()
        other = Answering(agent="linucb", rehearsed=0)
        other.reset(agent.spec, rng())
        other.load_state(state)
        assert all(np.array_equal(other.state()[name], array) for name, array in state.items())

    def test_mistakes(self):
        with pytest.raises(ConfigError, match="agent 'answerer': 'oracle' is no agent that selects and learns"):
            Answering(agent="oracle")
        with pytest.raises(ConfigError, match="agent_kwargs must be a mapping"):
            Answering(agent_kwargs=3)
        with pytest.raises(UnknownNameError, match=r"Unknown knob of agent 'answerer' 'agnet'. Did you mean 'agent'"):
            Answering(agnet="hare")
        with pytest.raises(UnknownNameError, match="Unknown agent 'hrae'"):
            Answering(agent="hrae")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A causal model with random weights and a vocabulary of characters: it answers nonsense, by the same code."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate([*alphabet, "<end>"])}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>").save_pretrained(folder)
    config = GPT2Config(vocab_size=len(alphabet) + 1, n_positions=256, n_embd=16, n_layer=1, n_head=2)
    config.eos_token_id = config.bos_token_id = len(alphabet)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return str(folder)


class TestLanguageModel:
    def test_it_answers_with_a_label_or_a_line(self, tiny_model):
        model = LanguageModel(tiny_model)
        examples = items({"text": "good", "score": "5"})
        assert model.answer(TASKS[3], Question("", "review: bad"), examples) in TASKS[3].labels
        text = model.answer(TASKS[4], Question("", "article: " + "long " * 300), ())
        assert text and "\n" not in text

    def test_the_likelihood_is_that_of_the_label_s_tokens(self, tiny_model):
        import torch

        model = LanguageModel(tiny_model)
        ids = model.tokenizer("ab 5", return_tensors="pt").input_ids
        with torch.no_grad():
            logits = torch.log_softmax(model.model(ids).logits.float(), dim=-1)
        byhand = float(logits[0, [1, 2], ids[0, 2:]].mean())
        assert model._likelihood("ab", "5") == pytest.approx(byhand, abs=1e-5)

    def test_retrieval_with_a_model(self, tiny_model):
        rewards, answers = play(BM25(model=tiny_model), 3, 2)
        assert set(answers) <= set(TASKS[3].labels) and len(rewards) == 2

    def test_a_model_that_there_is_not(self):
        with pytest.raises(UnknownNameError, match=r"Unknown language model 'smolm2'. Did you mean 'smollm2'"):
            BM25(model="smolm2")
