"""The contrastive loss over CLAP's projections: what it is, and its gradient by everything that is trained.

There is no checkpoint: the outputs of the towers, the weights of the projections and the scales are in
expected.safetensors themselves, under the names that a checkpoint has for them.
"""

import torch

from reference import transformers
from store import Expected
from transformers.models.clap.modeling_clap import ClapProjectionLayer, contrastive_loss

SOUNDS, AUDIO, TEXT, DIM = 6, 10, 8, 7

# Which texts are right for which sounds: each its own, and the first and the fourth the same thing.
OWN = torch.eye(SOUNDS)
SHARED = OWN.clone()
SHARED[0, 3] = SHARED[3, 0] = 1.0


def projections():
    """Both projections with weights that are not small."""
    audio = ClapProjectionLayer(transformers.ClapAudioConfig(hidden_size=AUDIO, projection_dim=DIM))
    text = ClapProjectionLayer(transformers.ClapTextConfig(hidden_size=TEXT, projection_dim=DIM))
    for layer in (audio, text):
        for parameter in layer.parameters():
            torch.nn.init.normal_(parameter, std=0.5)
    return audio, text


def clap_model(audio, text, scale_a, scale_t):
    """`ClapModel.forward` with `return_loss`, from the embeddings on."""
    logits_per_text = text @ audio.t() * scale_t.exp()
    logits_per_audio = audio @ text.t() * scale_a.exp()
    return (contrastive_loss(logits_per_text) + contrastive_loss(logits_per_audio.t())) / 2


def laion(audio, text, scale_a, right):
    """`ClipLoss` of LAION-AI/CLAP without `mlp_loss`; with more than one right text, the target is shared."""
    logits = scale_a.exp() * audio @ text.t()
    per_audio = torch.nn.functional.cross_entropy(logits, right / right.sum(1, keepdim=True))
    per_text = torch.nn.functional.cross_entropy(logits.t(), right.t() / right.t().sum(1, keepdim=True))
    return (per_audio + per_text) / 2


@torch.enable_grad()
def make(directory):
    torch.manual_seed(70)
    expected = Expected()
    audio_projection, text_projection = projections()
    pooled = {"audio": torch.randn(SOUNDS, AUDIO, requires_grad=True),
              "text": torch.randn(SOUNDS, TEXT, requires_grad=True)}
    scales = {"logit_scale_a": torch.tensor(1.7, requires_grad=True),
              "logit_scale_t": torch.tensor(2.3, requires_grad=True)}
    trained = {**pooled, **scales}
    for side, layer in (("audio", audio_projection), ("text", text_projection)):
        trained.update({f"{side}_projection.{key}": value for key, value in layer.named_parameters()})
    for key, value in trained.items():
        expected.add(key, value.detach())
    for name, right in (("own", OWN), ("shared", SHARED)):
        expected.add(f"right.{name}", right)
    cases = {
        "clap_model": lambda audio, text: clap_model(audio, text, scales["logit_scale_a"], scales["logit_scale_t"]),
        "laion": lambda audio, text: laion(audio, text, scales["logit_scale_a"], OWN),
        "laion_shared": lambda audio, text: laion(audio, text, scales["logit_scale_a"], SHARED),
    }
    for case, loss_of in cases.items():
        embeddings = {"audio": audio_projection(pooled["audio"]), "text": text_projection(pooled["text"])}
        for value in embeddings.values():
            value.retain_grad()
        unit = [value / value.norm(p=2, dim=-1, keepdim=True) for value in embeddings.values()]
        loss = loss_of(*unit)
        loss.backward()
        expected.add(f"{case}.loss", loss.detach())
        for side, value in embeddings.items():
            expected.add(f"{case}.grad.{side}_embeds", value.grad)
        for key, value in trained.items():
            if value.grad is not None:
                expected.add(f"{case}.grad.{key}", value.grad)
                value.grad = None
    expected.write(directory / "expected.safetensors")


CASES = {"clap-loss": make}
