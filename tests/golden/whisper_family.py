"""Cases of the Whisper encoder with a classifier: both numbers of mels, with and without weighted layers."""

import classifier
from ast_family import labels
from checkpoint import randomize, save, to_pickle
from reference import transformers

LANGUAGES = ["Afrikaans", "Amharic", "Arabic", "Armenian", "Assamese", "Asturian", "Azerbaijani", "Belarusian",
             "Bengali", "Bosnian", "Bulgarian", "Burmese"]
CLIPS = ["words16k.flac", "sounds16k.flac"]

TINY = dict(d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=48, classifier_proj_size=20,
            # The decoder is no part of this model, but its settings stand in the configuration.
            decoder_layers=1, decoder_attention_heads=2, decoder_ffn_dim=16, vocab_size=100,
            pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3, begin_suppress_tokens=[4])


def classification(settings, extractor_settings, seed, alter=None):
    def make(directory):
        config = transformers.WhisperConfig(**{**TINY, **settings}, **labels(LANGUAGES))
        model = randomize(transformers.WhisperForAudioClassification(config), seed)
        save(directory, model, transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins, **extractor_settings))
        if alter:
            alter(directory)
        modules = {"conv1": "encoder.conv1", "hidden.0": "encoder.layers.0<"}
        for layer in range(config.encoder_layers):
            modules[f"hidden.{layer + 1}"] = f"encoder.layers.{layer}"
        modules["last"] = "encoder"
        if config.use_weighted_layer_sum:
            modules["weighted"] = "projector<"
        modules["pooled"] = "classifier<"
        strides = {"features": (1, 89), "conv1": (1, 97), "hidden": (0, 37), "last": (0, 37), "weighted": (0, 37)}
        classifier.expect(directory, CLIPS, modules, strides)

    return make


CASES = {
    # sanchit-gandhi/whisper-medium-fleurs-lang-id.
    "whisper-language": classification({"d_model": 24}, {}, 40),
    # Ten seconds rather than thirty, which the clip of 10.24 s is cut to.
    "whisper-weighted": classification({"use_weighted_layer_sum": True, "max_source_positions": 500},
                                       {"chunk_length": 10}, 41),
    # The mels of large-v3.
    "whisper-128": classification({"num_mel_bins": 128, "d_model": 24, "problem_type": "multi_label_classification"},
                                  {}, 42, to_pickle),
}
