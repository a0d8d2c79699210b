"""Cases of CLAP: HTSAT with and without fusion, RoBERTa, and both layouts of processor and tokenizer."""

import json

import tokenizers
import torch

import classifier
from checkpoint import edit_json, randomize, save, to_pickle
from front_ends import chosen_chunks
from reference import transformers
from sound import read
from store import Expected

PROMPTS = ["dog", "This is a sound of a smoke alarm.", "somebody knocks on the door, twice",
           "Glass that shatters; 3 pieces", "café música"]

# What the tokenizer learns its merges from.
WORDS = """
this is a sound of a dog that barks the sound of a smoke alarm in the kitchen somebody knocks on the door
a person speaks and music plays glass shatters a baby cries a cat purrs the rain falls on the roof
water runs from the tap a car passes by with a siren a train whistles far away birds sing in the morning
a door bell rings twice footsteps on wooden stairs a phone rings people laugh and clap an engine starts
the wind blows in the trees a clock ticks thunder rolls a dog howls in the distance a bell sounds the alarm
""".split()

AUDIO = dict(patch_embeds_hidden_size=8, depths=[2, 2, 2, 1], num_attention_heads=[2, 2, 4, 8], mlp_ratio=2.0,
             hidden_size=64)
FUSION = dict(enable_fusion=True, fusion_type="aff_2d", window_size=4, depths=[1, 2, 2, 1])
TEXT = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, max_position_embeddings=66)

# Every how many patches of the first stage, of 4096, the layers are kept.
PATCH_STRIDE = 61


def tokenizer():
    """A byte-level BPE of RoBERTa's kind, with its special tokens where RoBERTa has them."""
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator([" ".join(WORDS)] * 3, vocab_size=400, min_frequency=2, show_progress=False,
                            special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    learnt = json.loads(bpe.to_str())["model"]
    return transformers.RobertaTokenizer(vocab=learnt["vocab"], merges=[tuple(pair) for pair in learnt["merges"]],
                                         model_max_length=64)


def model_of(audio, seed, scales):
    vocabulary = tokenizer()
    config = transformers.ClapConfig(
        text_config={**TEXT, "vocab_size": len(vocabulary)}, audio_config={**AUDIO, **audio}, projection_dim=24)
    model = randomize(transformers.ClapModel(config), seed)
    # The running statistics of decibels, as training leaves them: what follows is near one.
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.mul_(10.0).sub_(35.0)
    norm.running_var.mul_(600.0)
    model.logit_scale_a.data.fill_(scales[0])
    model.logit_scale_t.data.fill_(scales[1])
    return model, vocabulary


def old_layout(directory, extractor, vocabulary):
    """What is on the hub: preprocessor_config.json, with settings that nothing reads any more, and
    here the tokenizer as vocab.json and merges.txt alone."""
    (directory / "processor_config.json").unlink()
    (directory / "tokenizer.json").unlink()
    extractor.save_pretrained(directory)
    edit_json(directory / "preprocessor_config.json",
              put={"chunk_length_s": 10, "n_fft": 1024, "nb_max_frames": 1000, "processor_class": "ClapProcessor"})
    learnt = json.loads(vocabulary.backend_tokenizer.to_str())["model"]
    (directory / "vocab.json").write_text(json.dumps(learnt["vocab"], ensure_ascii=False), encoding="utf-8")
    merges = [" ".join(pair) for pair in learnt["merges"]]
    (directory / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
    to_pickle(directory)


def add_text(expected, model, vocabulary):
    """The text tower: every prompt's tokens and embedding, and the layers of the longest prompt by itself."""
    expected.note("prompts", PROMPTS)
    ids = [vocabulary(prompt)["input_ids"] for prompt in PROMPTS]
    expected.note("token_ids", ids)
    longest = max(range(len(ids)), key=lambda index: len(ids[index]))
    expected.note("text_layers_of", PROMPTS[longest])
    modules = {"text.hidden.0": "text_model.embeddings", "text.pooled": "text_model.pooler"}
    for layer in range(model.config.text_config.num_hidden_layers):
        modules[f"text.hidden.{layer + 1}"] = f"text_model.encoder.layer.{layer}"
    seen, hooks = classifier.watch(model, modules)
    model.get_text_features(input_ids=torch.tensor([ids[longest]]))
    for hook in hooks:
        hook.remove()
    for key, value in seen.items():
        expected.add(key, value)
    batch = vocabulary(PROMPTS, return_tensors="pt", padding=True)
    expected.add("text.embedding", model.get_text_features(**batch).pooler_output)


def audio_modules(model):
    encoder = "audio_model.audio_encoder"
    modules = {"image": f"{encoder}.patch_embed<", "patch_embed": f"{encoder}.patch_embed",
               "pooled": "audio_projection<", "projection": "audio_projection"}
    if model.config.audio_config.enable_fusion:
        modules["fused"] = f"{encoder}.patch_embed.fusion_model"
    for stage, depth in enumerate(model.config.audio_config.depths):
        modules[f"stage.{stage}"] = f"{encoder}.layers.{stage}"
        if stage < 2:
            modules[f"block.{stage}"] = f"{encoder}.layers.{stage}.blocks.{depth - 1}"
    modules["norm"] = f"{encoder}.norm"
    return modules


STRIDES = {"features": (1, 31), "image": (1, 23), "patch_embed": (0, PATCH_STRIDE), "fused": (2, 13), "block": (0, 41),
           "stage.0": (0, 17), "stage.1": (0, 7), "stage.2": (0, 3), "stage.3": (0, 3), "norm": (0, 3)}


def add_audio(expected, directory, clip, is_longer=None, layers=True):
    """The audio tower, and what the zero-shot pipeline makes of the whole clip.

    `is_longer` puts another value in the place of the extractor's; its keys end in `.short`, and the
    pipeline, which knows no such choice, is left out.
    """
    model = transformers.ClapModel.from_pretrained(directory)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    vocabulary = transformers.AutoTokenizer.from_pretrained(directory)
    for name, value in chosen_chunks(extractor, read(clip)).items():
        expected.note(f"{name}/{clip}", value)
    inputs = extractor(read(clip), sampling_rate=48_000, return_tensors="pt")
    suffix = ""
    if is_longer is not None:
        inputs["is_longer"] = torch.tensor([[is_longer]])
        suffix = ".short"
    expected.note(f"is_longer{suffix}/{clip}", bool(inputs["is_longer"][0][0]))
    text = vocabulary(PROMPTS, return_tensors="pt", padding=True)
    seen, hooks = classifier.watch(model, audio_modules(model))
    output = model(**text, input_features=inputs["input_features"].float(), is_longer=inputs["is_longer"])
    for hook in hooks:
        hook.remove()
    if layers:
        kept = {"features": inputs["input_features"][0], **seen}
    else:
        kept = {f"{key}{suffix}": seen[key] for key in ("patch_embed", "stage.0", "pooled")}
    strides = {**STRIDES, **{f"{key}{suffix}": value for key, value in STRIDES.items()}}
    expected.add_layers(clip, kept, strides)
    expected.add(f"embedding{suffix}/{clip}", output.audio_embeds[0])
    expected.add(f"similarity{suffix}/{clip}", output.audio_embeds[0] @ output.text_embeds.T)
    expected.add(f"logits{suffix}/{clip}", output.logits_per_audio[0])
    if is_longer is None:
        chosen_chunks(extractor, read(clip))
        pipeline = transformers.pipeline("zero-shot-audio-classification", model=str(directory), device="cpu")
        scores = {entry["label"]: entry["score"]
                  for entry in pipeline(read(clip), candidate_labels=PROMPTS, hypothesis_template="{}")}
        expected.add(f"scores/{clip}", [scores[prompt] for prompt in PROMPTS])


def unfused(directory):
    """laion/clap-htsat-unfused, saved by transformers 5: the extractor is inside processor_config.json."""
    model, vocabulary = model_of({}, 60, (2.5, 2.0))
    extractor = transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50)
    save(directory, model, transformers.ClapProcessor(extractor, vocabulary))
    expected = Expected(["words48k.flac", "alarm48k.flac", "sounds48k.flac"])
    add_text(expected, model, vocabulary)
    add_audio(expected, directory, "words48k.flac")
    add_audio(expected, directory, "alarm48k.flac", layers=False)
    add_audio(expected, directory, "sounds48k.flac", layers=False)
    expected.write(directory / "expected.safetensors")


def unfused_old(directory):
    """The same as it lies on the hub, and with the padding `repeat`."""
    model, vocabulary = model_of({"depths": [1, 1, 1, 1], "window_size": 4}, 61, (3.0, 1.0))
    extractor = transformers.ClapFeatureExtractor(truncation="rand_trunc", frequency_min=50, padding="repeat")
    save(directory, model, transformers.ClapProcessor(extractor, vocabulary))
    old_layout(directory, extractor, vocabulary)
    expected = Expected(["words48k.flac"])
    add_text(expected, model, vocabulary)
    add_audio(expected, directory, "words48k.flac", layers=False)
    expected.write(directory / "expected.safetensors")


def fused(directory):
    """laion/clap-htsat-fused: four mels a clip, and a fusion that `is_longer` switches."""
    model, vocabulary = model_of(FUSION, 62, (2.0, 2.5))
    extractor = transformers.ClapFeatureExtractor(truncation="fusion")
    save(directory, model, transformers.ClapProcessor(extractor, vocabulary))
    expected = Expected(["sounds48k.flac", "words48k.flac"])
    add_text(expected, model, vocabulary)
    add_audio(expected, directory, "sounds48k.flac")
    add_audio(expected, directory, "words48k.flac", layers=False)
    add_audio(expected, directory, "words48k.flac", is_longer=False, layers=False)
    expected.write(directory / "expected.safetensors")


CASES = {"clap-unfused": unfused, "clap-unfused-old": unfused_old, "clap-fused": fused}
