"""What transformers computes with a saved classifier: layers, logits, and its pipeline's scores."""

import torch

from reference import transformers
from sound import rate_hz, read
from store import Expected


def watch(model, modules):
    """Hooks on `modules`, key: path. Returns a dictionary that is filled by the next forward pass
    with each module's output, or with its input where the path ends in `<`."""
    seen, hooks = {}, []
    for key, path in modules.items():
        module = model.get_submodule(path.removesuffix("<"))
        takes_input = path.endswith("<")

        def hook(_, inputs, output, key=key, takes_input=takes_input):
            value = inputs[0] if takes_input else output
            while not isinstance(value, torch.Tensor):
                value = value[0]
            seen[key] = value[0].detach().clone()

        hooks.append(module.register_forward_hook(hook))
    return seen, hooks


def forward(model, inputs, modules):
    """The model's output for `inputs`, and what `modules` saw of the first of the batch."""
    seen, hooks = watch(model, modules)
    output = model(**inputs)
    for hook in hooks:
        hook.remove()
    return output, seen


def pipeline_scores(directory, pcm):
    """The scores of the audio-classification pipeline for the whole clip, in the order of the labels."""
    pipeline = transformers.pipeline("audio-classification", model=str(directory), device="cpu")
    scores = {entry["label"]: entry["score"] for entry in pipeline(pcm, top_k=None)}
    id2label = pipeline.model.config.id2label
    return [scores[id2label[label]] for label in range(len(id2label))]


def expect(directory, clips, modules, strides, scores=True):
    """Writes expected.safetensors for the classifier saved in `directory`.

    Of the first of `clips` the features and the outputs of `modules` are kept, thinned by `strides`
    as `Expected.add_layers` has it; of all of them the logits and the scores.
    """
    model = transformers.AutoModelForAudioClassification.from_pretrained(directory)
    extractor = transformers.AutoFeatureExtractor.from_pretrained(directory)
    expected = Expected(clips)
    for clip in clips:
        inputs = extractor(read(clip), sampling_rate=rate_hz(clip), return_tensors="pt")
        output, seen = forward(model, inputs, modules)
        if clip == clips[0]:
            features = inputs[extractor.model_input_names[0]][0]
            expected.add_layers(clip, {"features": features, **seen}, strides)
        expected.add(f"logits/{clip}", output.logits[0])
        if scores:
            expected.add(f"scores/{clip}", pipeline_scores(directory, read(clip)))
    expected.write(directory / "expected.safetensors")
    return expected
