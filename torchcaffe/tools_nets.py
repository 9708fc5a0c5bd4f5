"""Tools for definitions, each under its name in Caffe: python -m torchcaffe <tool> <args> (tools/upgrade_*.cpp,
python/draw_net.py).

A tool takes its arguments and returns the exit code; what Caffe's CHECKs would refuse is a CaffeError.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

from torchcaffe import files, log, upgrade
from torchcaffe.errors import CaffeError
from torchcaffe.flags import parse_flags
from torchcaffe.proto import caffe_pb2

DRAW_FLAGS = {
    "rankdir": ("LR", "The way the net runs: LR, RL, TB or BT."),
    "phase": ("ALL", "Whose layers to draw: TRAIN, TEST or ALL."),
    "display_lrm": (False, "Show learning rate multipliers."),
}


def upgrade_net_proto_text(argv: Sequence[str]) -> int:
    """Bring an old net definition (prototxt) to today's form: IN OUT."""
    return _upgrade_net(argv, "text", files.read_text, lambda path, net: files.write_file(path, [str(net).encode()]))


def upgrade_net_proto_binary(argv: Sequence[str]) -> int:
    """Bring an old binary net (caffemodel) to today's form, weights included: IN OUT."""
    return _upgrade_net(argv, "binary", files.read_binary, files.write_net)


def _upgrade_net(argv: Sequence[str], form: str, read: Callable[..., caffe_pb2.NetParameter],
                 write: Callable[[str, caffe_pb2.NetParameter], None]) -> int:
    if len(argv) != 2:
        log.error("Usage: upgrade_net_proto_%s v0_net_proto_file_in net_proto_file_out" % form)
        return 1
    net = read(argv[0], caffe_pb2.NetParameter())
    old = copy.deepcopy(net)
    complete = upgrade.upgrade_net(net, argv[0])
    if net == old:
        log.error("File already in latest proto format: %s" % argv[0])
    write(argv[1], net)
    log.info("Wrote upgraded NetParameter %s proto to %s" % (form, argv[1]))
    if not complete:
        log.error("Encountered error(s) while upgrading prototxt; see details above.")
    return 0 if complete else 1


def upgrade_solver_proto_text(argv: Sequence[str]) -> int:
    """Bring an old solver definition to today's form: IN OUT."""
    if len(argv) != 2:
        log.error("Usage: upgrade_solver_proto_text old_solver_proto_file_in solver_proto_file_out")
        return 1
    solver = files.read_text(argv[0], caffe_pb2.SolverParameter())
    if not solver.HasField("solver_type"):
        log.error("File already in latest proto format: %s" % argv[0])
    upgrade.upgrade_solver(solver, argv[0])
    files.write_file(argv[1], [str(solver).encode()])
    log.info("Wrote upgraded SolverParameter text proto to %s" % argv[1])
    return 0


def draw_net(argv: Sequence[str]) -> int:
    """Draw a net's graph: PROTOTXT PICTURE [--rankdir LR] [--phase ALL] [--display_lrm]; best with pydot and Graphviz."""
    flags, words = parse_flags(argv, DRAW_FLAGS)
    if len(words) != 2:
        log.error("Usage: draw_net input_net_proto_file output_image_file [--rankdir LR|RL|TB|BT] "
                  "[--phase TRAIN|TEST|ALL] [--display_lrm]")
        return 1
    if flags.phase not in ("TRAIN", "TEST", "ALL"):
        raise CaffeError("--phase %s: wanted TRAIN, TEST or ALL" % flags.phase)
    from caffe import draw  # the façade, which only this needs

    net = files.read_net_text(words[0])
    print("Drawing net to %s" % words[1])
    phase = None if flags.phase == "ALL" else caffe_pb2.Phase.Value(flags.phase)
    try:
        draw.draw_net_to_file(net, words[1], flags.rankdir, phase, flags.display_lrm)
    except (ImportError, ValueError) as e:
        raise CaffeError(str(e)) from e
    return 0
