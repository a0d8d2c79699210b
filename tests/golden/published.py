"""The published checkpoints in their full size, with random weights: what `full.py` compares.

Each entry writes a directory in the layout of its original. The settings are those of the published
configurations; what is not named here is the default of the configuration class, which transformers
takes from these same checkpoints.
"""

import transformers

from checkpoint import randomize, save
from clap_family import tokenizer
from front_ends import AST_EVENT, AST_KEYWORD


def numbered(count):
    names = {index: f"label {index}" for index in range(count)}
    return {"id2label": names, "label2id": {name: index for index, name in names.items()}}


def ast(directory, labels, settings, extractor):
    config = transformers.ASTConfig(**settings, **numbered(labels))
    model = randomize(transformers.ASTForAudioClassification(config))
    save(directory, model, transformers.ASTFeatureExtractor(**extractor))
    return model


def waveform(directory, family, head, labels, settings):
    config = getattr(transformers, f"{family}Config")(**settings, **numbered(labels))
    model = randomize(getattr(transformers, f"{family}{head}")(config))
    save(directory, model, transformers.Wav2Vec2FeatureExtractor(do_normalize=True))
    return model


def whisper(directory, labels, settings):
    config = transformers.WhisperConfig(**settings, **numbered(labels))
    model = randomize(transformers.WhisperForAudioClassification(config))
    save(directory, model, transformers.WhisperFeatureExtractor())
    return model


def clap(directory, audio, extractor):
    model = randomize(transformers.ClapModel(transformers.ClapConfig(audio_config=audio)))
    norm = model.audio_model.audio_encoder.batch_norm
    norm.running_mean.mul_(10.0).sub_(35.0)
    norm.running_var.mul_(600.0)
    for scale in (model.logit_scale_a, model.logit_scale_t):
        scale.data.fill_(3.0)
    # The published vocabulary is not at hand; a small one reaches a few of the 50265 embeddings.
    save(directory, model, transformers.ClapProcessor(transformers.ClapFeatureExtractor(**extractor), tokenizer()))
    return model


def ecapa(directory):
    from ecapa_family import load, write

    write(directory, {"channels": [1024, 1024, 1024, 1024, 3072], "attention_channels": 128, "lin_neurons": 192}, 0)
    return load(directory).mods.embedding_model


SEQUENCE = "ForSequenceClassification"
LARGE = dict(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096,
             feat_extract_norm="layer", do_stable_layer_norm=True)
WHISPER_MEDIUM = dict(d_model=1024, encoder_layers=24, encoder_attention_heads=16, encoder_ffn_dim=4096,
                      decoder_layers=24, decoder_attention_heads=16, decoder_ffn_dim=4096)
UNFUSED = {"truncation": "rand_trunc", "frequency_min": 50}

# Name: how it is written, the clip it listens to, and the question it is asked.
CHECKPOINTS = {
    "MIT/ast-finetuned-audioset-10-10-0.4593": (
        lambda to: ast(to, 527, {"problem_type": "multi_label_classification"}, AST_EVENT), "sounds16k.flac", "classify"),
    "MIT/ast-finetuned-speech-commands-v2": (
        lambda to: ast(to, 35, {"max_length": 128}, AST_KEYWORD), "word16k.flac", "classify"),
    "superb/wav2vec2-base-superb-ks": (
        lambda to: waveform(to, "Wav2Vec2", SEQUENCE, 12, {"use_weighted_layer_sum": True}), "words16k.flac", "classify"),
    "anton-l/xtreme_s_xlsr_300m_minds14": (
        lambda to: waveform(to, "Wav2Vec2", SEQUENCE, 14, {**LARGE, "conv_bias": True}), "words16k.flac", "classify"),
    "ntu-spml/distilhubert, 10 genres": (
        lambda to: waveform(to, "Hubert", SEQUENCE, 10, {"num_hidden_layers": 2, "feat_proj_layer_norm": False}),
        "words16k.flac", "classify"),
    "facebook/hubert-base-ls960, 10 genres": (
        lambda to: waveform(to, "Hubert", SEQUENCE, 10, {}), "words16k.flac", "classify"),
    "microsoft/wavlm-base-plus-sv": (
        lambda to: waveform(to, "WavLM", "ForXVector", 2, {"use_weighted_layer_sum": True}), "words16k.flac", "speaker"),
    "microsoft/wavlm-large, 7 intents": (
        lambda to: waveform(to, "WavLM", SEQUENCE, 7, LARGE), "words16k.flac", "classify"),
    "sanchit-gandhi/whisper-medium-fleurs-lang-id": (
        lambda to: whisper(to, 102, WHISPER_MEDIUM), "words16k.flac", "classify"),
    "laion/clap-htsat-unfused": (lambda to: clap(to, {}, UNFUSED), "words48k.flac", "score"),
    "laion/clap-htsat-fused": (
        lambda to: clap(to, {"enable_fusion": True, "fusion_type": "aff_2d"}, {"truncation": "fusion"}),
        "words48k.flac", "score"),
    "laion/larger_clap_general": (
        lambda to: clap(to, {"patch_embeds_hidden_size": 128, "hidden_size": 1024, "depths": [2, 2, 12, 2]}, UNFUSED),
        "words48k.flac", "score"),
    "speechbrain/spkrec-ecapa-voxceleb": (ecapa, "words16k.flac", "speaker"),
}
