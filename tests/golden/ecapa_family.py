"""Cases of ECAPA-TDNN, laid out as speechbrain publishes spkrec-ecapa-voxceleb."""

import pathlib
import tempfile

import reference  # Before speechbrain, as it asks.
import torch
from speechbrain.inference.classifiers import EncoderClassifier
from speechbrain.lobes.models.ECAPA_TDNN import ECAPA_TDNN, Classifier
from speechbrain.processing.features import InputNormalization
from speechbrain.utils.fetching import LocalStrategy

import classifier
from checkpoint import randomize
from sound import read
from store import Expected

CLIPS = ["words16k.flac", "word16k.flac", "sounds16k.flac"]
STRIDE = 25

TINY = dict(channels=[16, 16, 16, 16, 48], attention_channels=8, se_channels=8, lin_neurons=24)
SPEAKERS = ["id00012", "id00015", "id00017"]

HYPERPARAMS = """\
# Made by tests/golden: a tiny model in the layout of speechbrain/spkrec-ecapa-voxceleb.
pretrained_path: {path}
n_mels: 80
sample_rate: 16000
n_classes: {classes}
emb_dim: {lin_neurons}

compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: !ref <n_mels>

mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False

embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: !ref <n_mels>
    channels: {channels}
    kernel_sizes: [5, 3, 3, 3, 1]
    dilations: [1, 2, 3, 4, 1]
{sizes}    lin_neurons: !ref <emb_dim>

classifier: !new:speechbrain.lobes.models.ECAPA_TDNN.Classifier
    input_size: !ref <emb_dim>
    out_neurons: !ref <n_classes>

mean_var_norm_emb: !new:speechbrain.processing.features.InputNormalization
    norm_type: global
    std_norm: False

modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    mean_var_norm_emb: !ref <mean_var_norm_emb>
    classifier: !ref <classifier>

label_encoder: !new:speechbrain.dataio.encoder.CategoricalEncoder

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
        mean_var_norm_emb: !ref <mean_var_norm_emb>
        classifier: !ref <classifier>
        label_encoder: !ref <label_encoder>
    paths:
        embedding_model: !ref <pretrained_path>/embedding_model.ckpt
        mean_var_norm_emb: !ref <pretrained_path>/mean_var_norm_emb.ckpt
        classifier: !ref <pretrained_path>/classifier.ckpt
        label_encoder: !ref <pretrained_path>/label_encoder.txt
"""


def write(directory, settings, seed, speakers=SPEAKERS):
    """Writes a random model of these settings with all the files that are published."""
    embedding_model = randomize(ECAPA_TDNN(80, **settings), seed)
    head = randomize(Classifier(settings["lin_neurons"], out_neurons=len(speakers)), seed + 1)
    torch.save(embedding_model.state_dict(), directory / "embedding_model.ckpt")
    torch.save(head.state_dict(), directory / "classifier.ckpt")
    norm = InputNormalization(norm_type="global", std_norm=False)
    draw = torch.Generator().manual_seed(seed)
    norm.glob_mean = 0.5 * torch.randn(settings["lin_neurons"], generator=draw)
    norm.glob_std = torch.ones(1)
    norm.count = 1000
    norm._save(directory / "mean_var_norm_emb.ckpt")
    lines = [f"'{name}' => {index}" for index, name in enumerate(speakers)]
    (directory / "label_encoder.txt").write_text("\n".join([*lines, "================", "'starting_index' => 0", ""]))
    sizes = "".join(f"    {key}: {settings[key]}\n" for key in ("attention_channels", "se_channels") if key in settings)
    (directory / "hyperparams.yaml").write_text(HYPERPARAMS.format(
        path=".", classes=len(speakers), sizes=sizes, channels=settings["channels"], lin_neurons=settings["lin_neurons"]))


def load(directory):
    """speechbrain's own reader of the directory."""
    with tempfile.TemporaryDirectory() as scratch:
        return EncoderClassifier.from_hparams(
            source=str(directory), savedir=scratch, local_strategy=LocalStrategy.COPY,
            overrides={"pretrained_path": str(pathlib.Path(directory).resolve())})


def make(directory):
    write(directory, TINY, 50)
    model = load(directory)
    modules = {f"block.{number}": f"blocks.{number}" for number in range(4)}
    modules.update({"mfa": "mfa", "pooled": "asp", "statistics": "asp_bn"})
    strides = {"features": (0, 5), "block": (1, STRIDE), "mfa": (1, STRIDE)}
    expected, embeddings = Expected(CLIPS), []
    for clip in CLIPS:
        pcm = torch.from_numpy(read(clip))[None]
        if clip == CLIPS[0]:
            features = model.mods.mean_var_norm(model.mods.compute_features(pcm), torch.ones(1))
            _, seen = classifier.forward(model.mods.embedding_model, {"x": features, "lengths": torch.ones(1)}, modules)
            expected.add_layers(clip, {"features": features[0], **seen}, strides)
        embedding = model.encode_batch(pcm)[0, 0]
        embeddings.append(embedding)
        expected.add(f"embedding/{clip}", embedding)
        # With the mean over the training set taken off, which verification with speechbrain does not do.
        expected.add(f"embedding.centred/{clip}", model.encode_batch(pcm, normalize=True).reshape(-1))
    unit = torch.nn.functional.normalize(torch.stack(embeddings), dim=-1)
    expected.add("cosine", unit @ unit.T)
    expected.write(directory / "expected.safetensors")


CASES = {"ecapa": make}
