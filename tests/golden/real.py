#!/usr/bin/env python3
"""What the published YAMNet and Silero VAD say of real clips, for tests/real_weights.rs.

    real.py tiny   -    > fixtures/tiny.tflite   # ai-edge-litert 2.3.0, flatbuffers 25.12.19, numpy
    real.py yamnet DATA > fixtures/yamnet.json   # ai-edge-litert 2.3.0, numpy, soundfile
    real.py silero DATA > fixtures/silero.json   # silero-vad 6.2.3, onnxruntime 1.32.0, onnx 1.23.2,
                                                 # safetensors, numpy, soundfile

DATA is the folder with models/ and the clips. YAMNet runs in LiteRT with its default delegate
(XNNPACK) on one thread; every patch is kept, as whole numbers of 1/10000. The silero-vad package
brings the safetensors file (the weights here) and ONNX graphs with other weights; as the reference
is to be the package's own graph on the file's weights, those are put into the graph's initializers. `tiny` is no model that says anything: a small file with every kind of
table that the reader of TensorFlow Lite files knows.
"""

import importlib.metadata
import importlib.util
import json
import os
import sys

import numpy as np
import soundfile

# Twenty kinds of sound; the first SECONDS of each.
CLIPS = [
    "digits/7/7_lucas_21.flac",
    "events/baby_cry/donateacry_d5abedab-9ed5-48d0-a83b-fc00c33d6d6b-1430079192907-1.7-f-04-ti.flac",
    "events/chainsaw/esc_3-118656-A.flac",
    "events/church_bells/esc50_2-56926-A.flac",
    "events/clock_tick/esc_3-142593-A.flac",
    "events/dog/esc_2-122104-B.flac",
    "events/doorbell/antum_doorbell_02.flac",
    "events/footsteps/antum_node_step_gravel.4.flac",
    "events/glass_breaking/esc50_3-203377-A.flac",
    "events/gunshot/antum_rifle_fire_02.flac",
    "events/helicopter/esc_2-37806-D.flac",
    "events/knock/antum_door_knock_01.flac",
    "events/rain/esc_2-82367-A.flac",
    "events/rooster/esc_3-107219-A.flac",
    "events/siren/esc50_3-51909-A.flac",
    "events/sneezing/esc_3-141684-A.flac",
    "keywords/_silence_/3269.flac",
    "keywords/yes/97f4c236_nohash_2.flac",
    "noise/pink_noise.flac",
    "speech/835af760-91d5-4833-9f68-f333d23c6b09.flac",
    "wakewords/alexa/pv_247.flac",
]
RATE_HZ = 16_000
SECONDS = 5
STEP = 1e-4


def clips(data):
    for path in CLIPS:
        pcm, rate_hz = soundfile.read(os.path.join(data, path), dtype="float32")
        assert rate_hz == RATE_HZ and pcm.ndim == 1
        yield path, pcm[: RATE_HZ * SECONDS]


def versions(*packages):
    return {package: importlib.metadata.version(package) for package in packages}


def yamnet(data):
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(os.path.join(data, "models/yamnet.tflite"), num_threads=1)
    at = net.get_input_details()[0]["index"]
    scores_at, embeddings_at = [output["index"] for output in net.get_output_details()[:2]]
    found = []
    for path, pcm in clips(data):
        net.resize_tensor_input(at, [len(pcm)])
        net.allocate_tensors()
        net.set_tensor(at, pcm)
        net.invoke()
        scores, embeddings = net.get_tensor(scores_at), net.get_tensor(embeddings_at)
        mean = scores.mean(axis=0)
        found.append(
            {
                "path": path,
                "samples": len(pcm),
                "top5": np.argsort(-mean, kind="stable")[:5].tolist(),
                "scores": np.rint(scores / STEP).astype(int).tolist(),
                # Every 64th value of every patch.
                "embeddings": [[round(float(v), 6) for v in row[::64]] for row in embeddings],
            }
        )
    return {"versions": versions("ai-edge-litert", "numpy"), "seconds": SECONDS, "step": STEP, "clips": found}


def silero(data):
    import onnx
    import onnxruntime
    from onnx import numpy_helper
    from safetensors.numpy import load_file

    weights = load_file(os.path.join(data, "models/silero_vad_16k.safetensors"))
    keys = {"model.stft.forward_basis_buffer": "stft_conv.weight"}
    for part in ("weight", "bias"):
        keys[f"model.decoder.decoder.2.{part}"] = f"final_conv.{part}"
        for layer in range(4):
            keys[f"model.encoder.{layer}.reparam_conv.{part}"] = f"conv{layer + 1}.{part}"
        for side in ("ih", "hh"):
            keys[f"model.decoder.rnn.{part}_{side}"] = f"lstm_cell.{part}_{side}"
    # Found without importing it, which would ask for torch.
    package = importlib.util.find_spec("silero_vad").submodule_search_locations[0]
    graph = os.path.join(package, "data/silero_vad_16k_op15.onnx")
    model = onnx.load(graph)
    for initializer in model.graph.initializer:
        key = keys.pop(initializer.name, None)
        if key is not None:
            initializer.CopyFrom(numpy_helper.from_array(weights[key], initializer.name))
    assert not keys, keys
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    net = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    chunk, context = 512, 64
    found = []
    for path, pcm in clips(data):
        state, before = np.zeros((2, 1, 128), np.float32), np.zeros(context, np.float32)
        probabilities = []
        for start in range(0, len(pcm) - chunk + 1, chunk):
            heard = np.concatenate([before, pcm[start : start + chunk]])
            feed = {"input": heard[None], "state": state, "sr": np.array(RATE_HZ)}
            out, state = net.run(None, feed)
            before = heard[-context:]
            probabilities.append(round(float(out[0, 0]), 6))
        found.append({"path": path, "probabilities": probabilities})
    return {
        "versions": versions("silero-vad", "onnxruntime", "onnx", "numpy"),
        "seconds": SECONDS,
        "clips": found,
    }


def tiny():
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    def tensor(name, shape, kind, buffer=0, scales=None, axis=0):
        table = schema.TensorT()
        table.name, table.shape, table.type, table.buffer = name, shape, kind, buffer
        if scales is not None:
            table.quantization = schema.QuantizationParametersT()
            table.quantization.scale = scales
            table.quantization.zeroPoint = [0] * len(scales)
            table.quantization.quantizedDimension = axis
        return table

    def operator(opcode, inputs, outputs, kind=0, options=None):
        table = schema.OperatorT()
        table.opcodeIndex, table.inputs, table.outputs = opcode, inputs, outputs
        table.builtinOptionsType, table.builtinOptions = kind, options
        return table

    f32, i8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
    data = [b"", np.arange(18, dtype=np.float32).tobytes(), bytes([1, 2, 3, 253, 254, 255]), np.array([0.5, -0.5], np.float32).tobytes()]
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [
        tensor("in", [1, 4, 4, 2], f32),
        tensor("deep", [1, 3, 3, 2], f32, 1),
        tensor("dense", [2, 3], i8, 2, [0.25, 0.5]),
        tensor("bias", [2], f32, 3),
        tensor("middle", [1, 2, 4, 2], f32),
        tensor("out", [1, 2], f32),
    ]
    deep = schema.DepthwiseConv2DOptionsT()
    deep.strideH, deep.strideW, deep.depthMultiplier, deep.fusedActivationFunction = 2, 1, 1, 1
    full = schema.Conv2DOptionsT()
    full.padding, full.strideH, full.strideW, full.dilationHFactor = 1, 1, 3, 2
    dense = schema.FullyConnectedOptionsT()
    kinds = schema.BuiltinOptions
    graph.operators = [
        operator(0, [0, 1, -1], [4], kinds.DepthwiseConv2DOptions, deep),
        operator(1, [4, 1, 3], [4], kinds.Conv2DOptions, full),
        operator(2, [4, 2, 3], [5], kinds.FullyConnectedOptions, dense),
        operator(3, [5], [5]),
    ]
    graph.inputs, graph.outputs = [0], [5]
    model = schema.ModelT()
    model.version, model.description, model.subgraphs = 3, "tiny", [graph]
    model.operatorCodes, model.buffers = [], []
    builtin = schema.BuiltinOperator
    for code in (builtin.DEPTHWISE_CONV_2D, builtin.CONV_2D, builtin.FULLY_CONNECTED, builtin.COMPLEX_ABS):
        table = schema.OperatorCodeT()
        table.builtinCode, table.deprecatedBuiltinCode = code, min(code, 127)
        model.operatorCodes.append(table)
    for content in data:
        table = schema.BufferT()
        table.data = np.frombuffer(content, np.uint8) if content else None
        model.buffers.append(table)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    sys.stdout.buffer.write(bytes(builder.Output()))


def main():
    if sys.argv[1:2] == ["tiny"]:
        return tiny()
    families = {"yamnet": yamnet, "silero": silero}
    if len(sys.argv) != 3 or sys.argv[1] not in families:
        raise SystemExit("usage: real.py tiny|yamnet|silero DATA")
    found = families[sys.argv[1]](sys.argv[2])
    clips = found.pop("clips")
    # A line a clip, so that a change shows what changed.
    lines = ",\n".join(json.dumps(clip, separators=(",", ":")) for clip in clips)
    print(json.dumps(found)[:-1] + ', "clips": [\n' + lines + "\n]}")


if __name__ == "__main__":
    main()
