"""Cases of the Audio Spectrogram Transformer: both published lengths, and three layouts of files."""

import classifier
from checkpoint import edit_json, randomize, save, to_pickle, to_shards
from front_ends import AST_EVENT, AST_KEYWORD
from reference import transformers

EVENTS = ["Speech", "Dog", "Siren", "Smoke detector, smoke alarm", "Music", "Knock",
          "Doorbell", "Glass", "Shatter", "Silence", "Rain", "Whistle"]
KEYWORDS = ["backward", "bed", "bird", "down", "go", "left", "no", "off", "on", "yes"]

# What a published preprocessor_config.json may leave out, because it is the extractor's default.
OPTIONAL_FEATURE_KEYS = ["feature_size", "num_mel_bins", "max_length", "mean", "std", "do_normalize",
                         "padding_side", "padding_value", "return_attention_mask", "sampling_rate"]
# The same of config.json; the rest of it describes the tiny model.
OPTIONAL_CONFIG_KEYS = ["attention_probs_dropout_prob", "dtype", "frequency_stride", "hidden_act", "hidden_dropout_prob",
                        "initializer_range", "layer_norm_eps", "max_length", "num_mel_bins", "patch_size", "qkv_bias",
                        "time_stride", "transformers_version"]


def labels(names):
    return {"id2label": dict(enumerate(names)), "label2id": {name: id for id, name in enumerate(names)}}


def tiny(names, **settings):
    config = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48)
    return transformers.ASTConfig(**{**config, **settings}, **labels(names))


def expect(directory, clips, stride):
    model = "audio_spectrogram_transformer"
    modules = {
        "hidden.0": f"{model}.embeddings",
        "hidden.1": f"{model}.layers.0",
        "hidden.2": f"{model}.layers.1",
        "last": f"{model}.layernorm",
        "pooled": "classifier<",
    }
    strides = {"features": (0, 4 * stride), "hidden": (0, stride), "last": (0, stride)}
    classifier.expect(directory, clips, modules, strides)


def event(directory):
    """As MIT/ast-finetuned-audioset-10-10-0.4593, but that the pipeline finds a sigmoid there."""
    config = tiny(EVENTS, problem_type="multi_label_classification")
    model = randomize(transformers.ASTForAudioClassification(config), 1)
    save(directory, model, transformers.ASTFeatureExtractor(**AST_EVENT))
    expect(directory, ["sounds16k.flac", "words16k.flac"], 11)


def keyword(directory):
    """As MIT/ast-finetuned-speech-commands-v2."""
    config = tiny(KEYWORDS, max_length=128, num_attention_heads=4)
    model = randomize(transformers.ASTForAudioClassification(config), 2)
    save(directory, model, transformers.ASTFeatureExtractor(**AST_KEYWORD))
    expect(directory, ["word16k.flac", "words16k.flac"], 3)


def pickle(directory):
    """A pickle beside configurations that hold nothing but what differs from the defaults."""
    model = randomize(transformers.ASTForAudioClassification(tiny(EVENTS, hidden_size=16)), 3)
    save(directory, model, transformers.ASTFeatureExtractor())
    to_pickle(directory)
    edit_json(directory / "config.json", drop=OPTIONAL_CONFIG_KEYS)
    edit_json(directory / "preprocessor_config.json", drop=OPTIONAL_FEATURE_KEYS)
    expect(directory, ["sounds16k.flac"], 23)


def sharded(directory):
    """Shards with an index; no bias in the projections, other strides than the published ones."""
    config = tiny(KEYWORDS, max_length=128, qkv_bias=False, frequency_stride=16, time_stride=8,
                  problem_type="single_label_classification")
    model = randomize(transformers.ASTForAudioClassification(config), 4)
    save(directory, model, transformers.ASTFeatureExtractor(max_length=128, do_normalize=False))
    to_shards(directory, model, "24KB")
    expect(directory, ["word16k.flac"], 3)


CASES = {"ast-event": event, "ast-keyword": keyword, "ast-pickle": pickle, "ast-sharded": sharded}
