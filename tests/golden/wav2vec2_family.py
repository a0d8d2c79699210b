"""Cases of wav2vec 2.0, XLS-R, HuBERT, DistilHuBERT and WavLM: encoders over the raw waveform."""

import torch

import classifier
from ast_family import EVENTS, KEYWORDS, labels
from checkpoint import edit_json, randomize, save, to_old_keys, to_pickle
from reference import transformers
from sound import read
from store import Expected

# Long enough that WavLM's relative positions reach their logarithmic buckets (80 frames and more).
CLIPS = ["words16k.flac", "word16k.flac", "sounds16k.flac"]
# Every how many frames, of 249 for the first clip, the layers are kept.
STRIDE = 9

# A small encoder of the published shape; the positional convolution keeps its 128 taps and 16 groups.
TINY = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
            conv_dim=[16, 16, 16, 16, 16, 16, 24], classifier_proj_size=20)
# The style of XLS-R and of the large models.
STABLE = dict(feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True)

GENRES = ["blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock"]
INTENTS = ["abroad", "address", "app_error", "atm_limit", "balance", "business_loan", "card_issues"]


def extractor(**settings):
    return transformers.Wav2Vec2FeatureExtractor(**settings)


def modules_of(model, prefix):
    """Where the layers of an encoder are, by the keys they are kept under."""
    path = f"{prefix}." if prefix else ""
    modules = {
        "conv.0": f"{path}feature_extractor.conv_layers.0",
        "conv.last": f"{path}feature_extractor",
        "projection": f"{path}feature_projection",
        "positions": f"{path}encoder.pos_conv_embed",
        "hidden.0": f"{path}encoder.layers.0<",
    }
    for layer in range(model.config.num_hidden_layers):
        modules[f"hidden.{layer + 1}"] = f"{path}encoder.layers.{layer}"
    modules["last"] = f"{path}encoder"
    if getattr(model.config, "add_adapter", False):
        modules["adapter"] = f"{path}adapter"
    return modules


# The axis and the stride of what is thinned, by the first part of its key or by all of it.
STRIDES = {
    "features": (0, 97),
    "conv.0": (1, 641),
    "conv.last": (1, STRIDE),
    "projection": (0, STRIDE),
    "positions": (0, STRIDE),
    "hidden": (0, STRIDE),
    "last": (0, STRIDE),
    "weighted": (0, STRIDE),
    "tdnn": (0, STRIDE),
}


def classification(family, settings, names, do_normalize, seed, alter=None):
    """A case with a sequence classifier of `family` (Wav2Vec2, Hubert, WavLM)."""

    def make(directory):
        config = getattr(transformers, f"{family}Config")(**{**TINY, **settings}, **labels(names))
        model = randomize(getattr(transformers, f"{family}ForSequenceClassification")(config), seed)
        # The published extractors of models with layer norms give a mask; for one clip it is all ones.
        with_mask = config.feat_extract_norm == "layer"
        save(directory, model, extractor(do_normalize=do_normalize, return_attention_mask=with_mask))
        if alter:
            alter(directory)
        modules = modules_of(model, model.base_model_prefix)
        if config.use_weighted_layer_sum:
            modules["weighted"] = "projector<"
        modules["pooled"] = "classifier<"
        classifier.expect(directory, CLIPS, modules, STRIDES)

    return make


def bare(family, settings, do_normalize, seed, alter=None):
    """A case with an encoder that has no head, as the bases for training are published."""

    def make(directory):
        config = getattr(transformers, f"{family}Config")(**{**TINY, **settings})
        model = randomize(getattr(transformers, f"{family}Model")(config), seed)
        save(directory, model, extractor(do_normalize=do_normalize))
        if alter:
            alter(directory)
        model = getattr(transformers, f"{family}Model").from_pretrained(directory)
        inputs = extractor(do_normalize=do_normalize)(read(CLIPS[0]), sampling_rate=16_000, return_tensors="pt")
        output, seen = classifier.forward(model, inputs, modules_of(model, ""))
        expected = Expected(CLIPS[:1])
        expected.add_layers(CLIPS[0], {"features": inputs["input_values"][0], **seen}, STRIDES)
        expected.add(f"pooled/{CLIPS[0]}", output.last_hidden_state[0].mean(0))
        expected.write(directory / "expected.safetensors")

    return make


def speaker(family, settings, do_normalize, seed, alter=None):
    """A case with an x-vector head: embeddings of every clip, and the cosine of each pair."""

    def make(directory):
        config = getattr(transformers, f"{family}Config")(
            **{**TINY, **settings}, tdnn_dim=[24, 24, 24, 24, 40], xvector_output_dim=20, **labels(EVENTS)
        )
        kind = getattr(transformers, f"{family}ForXVector")
        save(directory, randomize(kind(config), seed), extractor(do_normalize=do_normalize))
        if alter:
            alter(directory)
        model = kind.from_pretrained(directory)
        prefix = model.base_model_prefix
        modules = modules_of(model, prefix)
        modules.update({"tdnn.0": "tdnn.0", "tdnn.4": "tdnn.4", "statistics": "feature_extractor<"})
        if config.use_weighted_layer_sum:
            modules["weighted"] = "projector<"
        expected, embeddings = Expected(CLIPS), []
        for clip in CLIPS:
            inputs = extractor(do_normalize=do_normalize)(read(clip), sampling_rate=16_000, return_tensors="pt")
            output, seen = classifier.forward(model, inputs, modules)
            if clip == CLIPS[0]:
                expected.add_layers(clip, {"features": inputs["input_values"][0], **seen}, STRIDES)
            embeddings.append(output.embeddings[0])
            expected.add(f"embedding/{clip}", output.embeddings[0])
            expected.add(f"logits/{clip}", output.logits[0])
        unit = torch.nn.functional.normalize(torch.stack(embeddings), dim=-1)
        # Row and column in the order of the clips.
        expected.add("cosine", unit @ unit.T)
        expected.write(directory / "expected.safetensors")

    return make


def without_optional_keys(directory):
    """A pickle whose config.json leaves out all that a configuration class would fill in."""
    to_pickle(directory)
    keep = ("architectures", "classifier_proj_size", "conv_dim", "hidden_size", "id2label", "intermediate_size",
            "label2id", "model_type", "num_attention_heads", "num_hidden_layers", "use_weighted_layer_sum")
    path = directory / "config.json"
    edit_json(path, drop=[key for key in transformers.Wav2Vec2Config().to_dict() if key not in keep])
    edit_json(directory / "preprocessor_config.json",
              drop=["feature_extractor_type", "padding_side", "return_attention_mask"])


MULTI = {"problem_type": "multi_label_classification"}
SINGLE = {"problem_type": "single_label_classification"}
# Twelve values a head, which fill no vector register evenly.
WIDE = {"hidden_size": 48, "intermediate_size": 64}
WEIGHTED = {"use_weighted_layer_sum": True}

CASES = {
    # superb/wav2vec2-base-superb-ks: a pickle, weighted sum of the layers, names of old.
    "wav2vec2-group": classification("Wav2Vec2", {**WEIGHTED, **WIDE}, KEYWORDS, True, 10, without_optional_keys),
    # anton-l/xtreme_s_xlsr_300m_minds14.
    "wav2vec2-stable": classification("Wav2Vec2", {**STABLE, **WEIGHTED, **SINGLE}, INTENTS, True, 11, to_old_keys),
    "wav2vec2-raw": classification("Wav2Vec2", {**MULTI, "num_attention_heads": 2}, EVENTS, False, 12),
    # As MMS: adapters in every layer of the encoder.
    "wav2vec2-attention-adapter": classification("Wav2Vec2", {**STABLE, "adapter_attn_dim": 8}, KEYWORDS, True, 13),
    # Convolutional adapter above the encoder, with a change of width.
    "wav2vec2-adapter": bare("Wav2Vec2", {**STABLE, "add_adapter": True, "output_hidden_size": 24}, True, 14),
    "hubert-sequence": classification("Hubert", {}, GENRES, True, 20),
    "hubert-stable": classification("Hubert", {**STABLE, **WEIGHTED}, INTENTS, True, 21, to_old_keys),
    "hubert-batch-norm": classification("Hubert", {"conv_pos_batch_norm": True, "problem_type": "regression"}, KEYWORDS, False, 22),
    # facebook/hubert-base-ls960 and ntu-spml/distilhubert.
    "hubert-base": bare("Hubert", {}, True, 23, to_pickle),
    "distilhubert": bare("Hubert", {"feat_proj_layer_norm": False}, True, 24, to_pickle),
    "distilhubert-genre": classification("Hubert", {"feat_proj_layer_norm": False}, GENRES, True, 25, to_old_keys),
    # microsoft/wavlm-base-plus-sv.
    "wavlm-sv": speaker("WavLM", WEIGHTED, True, 30, to_pickle),
    "wavlm-sequence": classification("WavLM", WEIGHTED, KEYWORDS, False, 31),
    # microsoft/wavlm-large.
    "wavlm-stable": classification("WavLM", {**STABLE, "conv_bias": False, **MULTI}, INTENTS, True, 32, to_old_keys),
}
