"""Tools between Caffe's files and PyTorch's world: python -m torchcaffe export_onnx|export_safetensors|import_safetensors.

They are not Caffe's. As the other tools, one takes its arguments and returns the exit code; errors are CaffeErrors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from types import SimpleNamespace

from torchcaffe import files, log, onnx_export, state_dict
from torchcaffe.errors import CaffeError
from torchcaffe.flags import Default, parse_flags
from torchcaffe.net import Net
from torchcaffe.proto import caffe_pb2

NET_FLAGS: dict[str, tuple[Default, str]] = {
    "phase": ("TEST", "Whose layers the net has: TEST or TRAIN."),
    "level": (0, "The network level."),
    "stage": ("", "The network stages, separated by ','."),
}
ONNX_FLAGS = {**NET_FLAGS, "outputs": ("", "The blobs to compute, separated by ','; default: the net's outputs."),
              "dynamic": (True, "Leave open the input sizes that the net leaves open.")}
IMPORT_FLAGS = {**NET_FLAGS, "map": ("", "A file of lines 'THEIR-NAME OUR-NAME', of layers or arrays; '-' drops one.")}


def export_onnx(argv: Sequence[str]) -> int:
    """Write a net with its weights as ONNX: NET.prototxt WEIGHTS.caffemodel OUT.onnx [-outputs a,b] [-nodynamic]."""
    flags, words = parse_flags(argv, ONNX_FLAGS)
    if len(words) != 3:
        log.error("Usage: export_onnx net.prototxt weights.caffemodel out.onnx [-outputs BLOB,BLOB] [-nodynamic] "
                  "[-phase TEST] [-level 0] [-stage STAGE,STAGE]")
        return 1
    net = _read_net(words[0], flags)
    net.copy_trained_layers_from(words[1])
    outputs = flags.outputs.split(",") if flags.outputs else None
    inputs = onnx_export.export_onnx(net, words[2], outputs, flags.dynamic, _provenance(words[:2]))
    for name, dims in inputs.items():
        log.info("Input %s: %s" % (name, " x ".join(map(str, dims))))
    log.info("Wrote %s, %d bytes" % (words[2], os.path.getsize(words[2])))
    return 0


def export_safetensors(argv: Sequence[str]) -> int:
    """Write a net's weights as safetensors: NET.prototxt WEIGHTS.caffemodel OUT.safetensors."""
    flags, words = parse_flags(argv, NET_FLAGS)
    if len(words) != 3:
        log.error("Usage: export_safetensors net.prototxt weights.caffemodel out.safetensors "
                  "[-phase TEST] [-level 0] [-stage STAGE,STAGE]")
        return 1
    net = _read_net(words[0], flags)
    net.copy_trained_layers_from(words[1])
    state_dict.write_safetensors(words[2], net, _provenance(words[:2]))
    log.info("Wrote %s, %d bytes" % (words[2], os.path.getsize(words[2])))
    return 0


def import_safetensors(argv: Sequence[str]) -> int:
    """Write safetensors, by layer name, as a caffemodel: NET.prototxt IN.safetensors OUT.caffemodel [-map FILE]."""
    flags, words = parse_flags(argv, IMPORT_FLAGS)
    if len(words) != 3:
        log.error("Usage: import_safetensors net.prototxt in.safetensors out.caffemodel [-map names.txt] "
                  "[-phase TEST] [-level 0] [-stage STAGE,STAGE]")
        return 1
    net = _read_net(words[0], flags)
    state, _ = state_dict.read_safetensors(words[1])
    report = state_dict.load_state_dict(net, state, read_mapping(flags.map) if flags.map else None)
    for line in str(report).splitlines():
        log.info(line)
    files.write_net(words[2], net)
    log.info("Wrote %s, %d bytes" % (words[2], os.path.getsize(words[2])))
    return 0


def read_mapping(path: str) -> dict[str, str | None]:
    """Their names to ours, from lines of two words; '-' as the second is None, what follows # is a comment."""
    mapping: dict[str, str | None] = {}
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise CaffeError("%s: cannot be read: %s" % (path, e)) from e
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or words[0] in mapping:
            raise CaffeError("%s:%d: got %r, wanted two names, the first one not given before" % (path, number, line))
        mapping[words[0]] = None if words[1] == "-" else words[1]
    return mapping


def _read_net(path: str, flags: SimpleNamespace) -> Net:
    if flags.phase not in caffe_pb2.Phase.keys():
        raise CaffeError("-phase %s: wanted TEST or TRAIN" % flags.phase)
    stages = [stage for stage in flags.stage.split(",") if stage]
    return Net(files.read_net_text(path), caffe_pb2.Phase.Value(flags.phase), flags.level, stages)


def _provenance(paths: Sequence[str]) -> dict[str, str]:
    """What the file was made from: names and SHA-256 of the definition and the weights."""
    found = {}
    for kind, path in zip(("definition", "weights"), paths):
        digest = hashlib.sha256()
        with open(path, "rb") as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
        found.update({kind: os.path.basename(path), kind + ".sha256": digest.hexdigest()})
    return found
