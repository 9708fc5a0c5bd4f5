"""The forks' layers (torchcaffe/extras), for which there is no real Caffe to ask.

Held to three things instead: plain loops in float64 (extras_reference.py), whose differences the gradients are held to as
well; what OpenCV's reader of Caffe nets answers, a program by other people (goldens/extras_opencv.npz); and for Permute
a fork that can be run (goldens/extras_kendryte.npz). Both files are recorded by goldens/make_extras.py.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import caffe
import numpy as np
import pytest
from caffe import layers as L
from caffe import net_spec
from caffe import params as P
from caffe.proto import caffe_pb2 as facade
from extras_cases import BN, CASES, INTERP, NORMALIZE, OPENCV, PERMUTE, PSROI, ROI, UPSAMPLE
from extras_reference import REFERENCE, reference
from google.protobuf import text_format
from layer_case import Blob, Case, numbers
from parity.compare_cases import TOLERANCE, arrays_of, compare_case
from parity.run_cases import run_case

from torchcaffe import __main__ as command
from torchcaffe import forks, layer
from torchcaffe.errors import CaffeError
from torchcaffe.proto import caffe_pb2

GOLDENS = Path(__file__).parent / "goldens"
STEP = 1e-5  # of the differences: error about 1e-10 for a smooth float64 function, and smaller than any distance to a kink


@pytest.fixture(autouse=True)
def switched_on(tmp_path, monkeypatch):
    """The extras, for one test; cases write their files into the current folder."""
    monkeypatch.setattr(forks, "_enabled", True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")


def goldens(name: str) -> dict[str, dict[str, np.ndarray]]:
    """case name -> array name -> array, as another program computed them."""
    with np.load(GOLDENS / name) as file:
        return arrays_of(file)


def inputs(case: Case, arrays: dict[str, np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """Bottoms, parameters and top diffs of the case's last pass, drawn again as run_case drew them."""
    random = case.random()
    shapes = [arrays[name].shape for name in sorted(a for a in arrays if re.fullmatch(r"param\d", a))]
    if case.params == ("filler",):
        params = [arrays["param%d" % i] for i in range(len(shapes))]
    else:
        params = [numbers(random, shape, case.params[i] if case.params else "normal") for i, shape in enumerate(shapes)]
    for now in [tuple(b.shape for b in case.bottoms)] + ([case.then] if case.then else []):
        bottoms = [numbers(random, shape, b.values) for b, shape in zip(case.bottoms, now)]
        if "Loss" in case.layer:
            diffs = [np.array(float(re.search(r"loss_weight: (\S+)", case.layer).group(1)))]
        elif now == case.then or not case.then:
            diffs = [numbers(random, arrays["top0"].shape, "normal")]
        else:
            numbers(random, reference(definition(case), bottoms, params, phase(case))[0].shape, "normal")
    return bottoms, params, diffs


def definition(case: Case) -> caffe_pb2.LayerParameter:
    return text_format.Parse(case.layer, caffe_pb2.LayerParameter())


def phase(case: Case) -> int:
    return caffe_pb2.Phase.Value(case.phase)


def top_of(case: Case, bottoms: list[np.ndarray], params: list[np.ndarray]) -> np.ndarray:
    """What the reference says top 0 is, float64; the layers after it, if any, are ReLUs."""
    top = reference(definition(case), bottoms, params, phase(case))[0]
    return np.maximum(top, 0) if case.after else top


def differences(case: Case, bottoms: list[np.ndarray], params: list[np.ndarray], diff: np.ndarray,
                which: int) -> np.ndarray:
    """The gradient of sum(top * diff) by number `which` of bottoms and parameters: differences of the reference."""
    arrays = [a.astype(np.float64) for a in [*bottoms, *params]]

    def total() -> float:
        return float((top_of(case, arrays[: len(bottoms)], arrays[len(bottoms) :]) * diff).sum())

    gradient = np.empty_like(arrays[which])
    for index in np.ndindex(gradient.shape):
        held = arrays[which][index]
        arrays[which][index] = held + STEP
        up = total()
        arrays[which][index] = held - STEP
        gradient[index] = (up - total()) / (2 * STEP)
        arrays[which][index] = held
    return gradient


def off(ours: np.ndarray, wanted: np.ndarray) -> float:
    """The greatest difference, as a share of the largest value or of 1."""
    assert ours.shape == wanted.shape
    return float(np.abs(ours - wanted).max() / max(1, np.abs(wanted).max())) if ours.size else 0.0


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_forward_and_backward_as_in_plain_loops(case: Case):
    arrays = run_case(caffe, case)
    bottoms, params, diffs = inputs(case, arrays)
    assert off(arrays["top0"], top_of(case, bottoms, params)) <= TOLERANCE
    if not case.backward or case.layer.startswith('type: "PriorBox"'):
        return
    kind = definition(case).type
    if case.name == "ROIPooling ties":  # the first in row order gets the gradient: make it the greatest, by less than 1
        bottoms[0] = bottoms[0] - 1e-3 * np.arange(20).reshape(4, 5)
    for i in range(len(bottoms)) if case.gradients is None else case.gradients:
        if i > 0 and kind in ("Upsample", "ROIPooling", "PSROIPooling"):
            assert (arrays["bottom%d_diff" % i] == 7).all()  # not written
            continue
        # float32 against float64, through two divisions by norms or deviations at most
        assert off(arrays["bottom%d_diff" % i], differences(case, bottoms, params, diffs[0], i)) <= 2e-5, "bottom %d" % i
    for i in range(len(params)):
        learned = kind != "BN" or i < 2
        wanted = differences(case, bottoms, params, diffs[0], len(bottoms) + i) if learned else np.zeros_like(params[i])
        assert off(arrays["param%d_diff" % i], wanted) <= 2e-5, "param %d" % i


def test_values_unpooled_to_one_place_all_get_its_gradient():
    case = next(c for c in CASES if c.name == "Upsample twice to one place")
    arrays = run_case(caffe, dataclasses.replace(case, backward=True))
    bottoms, _, diffs = inputs(case, arrays)
    for n, c, h, w in np.ndindex(bottoms[0].shape):
        assert arrays["bottom0_diff"][n, c, h, w] == diffs[0][n, c].flat[int(bottoms[1][n, c, h, w])]


@pytest.mark.parametrize("case", [c for c in CASES if c.name in OPENCV], ids=lambda c: c.name)
def test_forward_as_opencv(case: Case):
    wanted = goldens("extras_opencv.npz")[case.name]
    error, array = compare_case(wanted, {name: a for name, a in run_case(caffe, case).items() if name in wanted})
    assert error <= TOLERANCE, "%s is off by %.1e of its largest value" % (array, error)


@pytest.mark.parametrize("case", [c for c in CASES if c.name.startswith("Permute")], ids=lambda c: c.name)
def test_permute_as_a_fork(case: Case):
    assert compare_case(goldens("extras_kendryte.npz")[case.name], run_case(caffe, case))[0] == 0


def test_goldens_say_where_they_come_from():
    for name, words, cases in (("extras_opencv.npz", "OpenCV 4", OPENCV), ("extras_kendryte.npz", "kendryte-caffe", {
            c.name for c in CASES if c.name.startswith("Permute")})):
        with np.load(GOLDENS / name) as file:
            assert words in str(file["provenance"])
        assert set(goldens(name)) - {"SSD net"} == cases


def test_every_layer_type_has_a_case_a_fork_a_source_and_a_row():
    types = set(layer.layer_types()) - set(layer.CATALOGUE)
    assert types == set(layer.EXTRAS) == set(forks.FORKS) == set(REFERENCE)
    assert {definition(c).type for c in CASES} == types
    rows = re.findall(r"(?m)^\| (\w+) \|", (Path(__file__).parent.parent / "docs" / "extras.md").read_text())
    assert set(rows) - {"type"} == types
    for name, fork in forks.FORKS.items():
        doc = " ".join(layer.EXTRAS[name].__doc__.split())
        for repository in re.findall(r"\((\S+?/\S+?)[,)]", fork) or [fork]:
            assert repository in doc, name
        assert re.search(r"Follows .*_layer\.c(pp|u)", doc), name


# -- what is refused -------------------------------------------------------------------------------------------------------
def made(layer_text: str, *bottoms: tuple, tops: int = 1) -> Case:
    return Case("refused", layer_text, tuple(b if isinstance(b, Blob) else Blob(b) for b in bottoms), tops=tops)


PRIORBOX, DETECTION = 'type: "PriorBox" prior_box_param { %s }', 'type: "DetectionOutput" detection_output_param { %s }'
IMAGE, MASK, PRIORS = (1, 2, 3, 4), Blob((1, 2, 3, 4), "constant:0"), (1, 2, 8)
REFUSED = [
    ("shape .1, 2, 3., wanted .num", made(INTERP % "zoom_factor: 2", (1, 2, 3))),
    ("got no size, wanted height and width", made(INTERP % "height: 4", IMAGE)),
    ("height 0 and width 2", made(INTERP % "height: 0 width: 2", IMAGE)),
    ("pad_beg 1 and pad_end 0, wanted 0 or less", made(INTERP % "zoom_factor: 2 pad_beg: 1", IMAGE)),
    ("leave nothing of a bottom", made(INTERP % "zoom_factor: 2 pad_beg: -2 pad_end: -1", IMAGE)),
    ("zoom_factor 0 and shrink_factor 1", made(INTERP % "zoom_factor: 0", IMAGE)),
    ("got 1 bottom", made(UPSAMPLE % "scale: 2", IMAGE)),
    ("one of scale_h and scale_w", made(UPSAMPLE % "scale_h: 2", IMAGE, MASK)),
    ("got scale 1, 1", made(UPSAMPLE % "scale: 1", IMAGE, MASK)),
    ("pad_out_h with scale 3", made(UPSAMPLE % "scale: 3 pad_out_h: true", IMAGE, MASK)),
    ("must have one shape", made(UPSAMPLE % "scale: 2", IMAGE, (1, 2, 3, 3))),
    ("top index 48 out of range.*6 x 8; check scale", made(UPSAMPLE % "scale: 2", IMAGE, Blob(IMAGE, "constant:48"))),
    ("top index -1 out of range", made(UPSAMPLE % "scale: 2", IMAGE, Blob(IMAGE, "constant:-1"))),
    ("scale_filler, which are SegNet's, and frozen, which are PSPNet's", made(BN % "scale_filler {} frozen: true", IMAGE)),
    ("shape .4,., wanted channels", made('type: "BN"', (4,))),
    ("order .0, 4., wanted axes", made(PERMUTE % "order: 0 order: 4", IMAGE)),
    ("order .1, 1., wanted", made(PERMUTE % "order: 1 order: 1", IMAGE)),
    ("channels on axis 1", made(NORMALIZE % "", (3,))),
    ("got min_size ..", made(PRIORBOX % "", IMAGE, IMAGE)),
    ("1 pixel at least", made(PRIORBOX % "min_size: 0.5", IMAGE, IMAGE)),
    ("1 max_size, wanted none or one for each of 2", made(PRIORBOX % "min_size: 1 min_size: 2 max_size: 3", IMAGE, IMAGE)),
    ("greater than its min_size", made(PRIORBOX % "min_size: 3 max_size: 3", IMAGE, IMAGE)),
    ("aspect_ratio .-1.0., wanted", made(PRIORBOX % "min_size: 3 aspect_ratio: -1", IMAGE, IMAGE)),
    ("variance .*wanted one or four", made(PRIORBOX % "min_size: 3 variance: 1 variance: 1", IMAGE, IMAGE)),
    ("Either step or step_h/step_w", made(PRIORBOX % "min_size: 3 step: 1 step_h: 1", IMAGE, IMAGE)),
    ("img_h 5, img_w 0", made(PRIORBOX % "min_size: 3 img_h: 5", IMAGE, IMAGE)),
    ("got no num_classes", made(DETECTION % "", (1, 8), (1, 4), PRIORS)),
    ("nms_threshold -1", made(DETECTION % "num_classes: 2 nms_param { nms_threshold: -1 }", (1, 8), (1, 4), PRIORS)),
    ("got eta 0", made(DETECTION % "num_classes: 2 nms_param { eta: 0 }", (1, 8), (1, 4), PRIORS)),
    ("2 priors need .N, 8., got .1, 12", made(DETECTION % "num_classes: 2", (1, 12), (1, 4), PRIORS)),
    ("2 priors need .N, 4., got .1, 6", made(DETECTION % "num_classes: 2", (1, 8), (1, 6), PRIORS)),
    ("offsets of 2 images and scores of 1", made(DETECTION % "num_classes: 2", (2, 8), (1, 4), PRIORS)),
    ("PriorBox's .1, 2, priors", made(DETECTION % "num_classes: 2", (1, 8), (1, 4), (2, 2, 8))),
    ("priors of shape .1, 2, 0.", made(DETECTION % "num_classes: 2", (1, 0), (1, 0), (1, 2, 0))),
    ("without width or height", made(DETECTION % "num_classes: 2 code_type: CENTER_SIZE", (1, 8), (1, 4),
                                     Blob(PRIORS, "constant:0"))),
    ("output_directory . is not supported; take it out", made(
        DETECTION % 'num_classes: 2 save_output_param { output_directory: "x" }', (1, 8), (1, 4), PRIORS)),
    ("visualize is not supported", made(DETECTION % "num_classes: 2 visualize: true", (1, 8), (1, 4), PRIORS)),
    ("pooled_h 2 and pooled_w 0", made(ROI % "pooled_h: 2", IMAGE, (1, 5))),
    ("regions of shape .1, 4.", made(ROI % "pooled_h: 2 pooled_w: 2", IMAGE, (1, 4))),
    ("features of shape .1, 2.", made(ROI % "pooled_h: 2 pooled_w: 2", (1, 2), (1, 5))),
    ("region 1 is of image 3, wanted 0 to 0", made(ROI % "pooled_h: 2 pooled_w: 2", IMAGE, Blob(
        (2, 5), "list:0,0,0,1,1,3,0,0,1,1"))),
    ("region 0 is .*nan.*wanted finite numbers", made(ROI % "pooled_h: 2 pooled_w: 2", IMAGE, Blob(
        (1, 5), "list:0,1,nan,1,1"))),
    ("got 2 channels, wanted output_dim 1 .* = 4", made(
        PSROI % "spatial_scale: 1 output_dim: 1 group_size: 2", IMAGE, (1, 5))),
    ("spatial_scale 0, wanted all positive", made(PSROI % "output_dim: 1 group_size: 1", IMAGE, (1, 5))),
    ("got 3 bottoms", made('type: "SmoothL1Loss"', (2, 3), (2, 3), (2, 3))),
    ("bottom 1 is .2, 4.", made('type: "SmoothL1Loss"', (2, 3), (2, 4))),
    ("got sigma 0", made('type: "SmoothL1Loss" smooth_l1_loss_param { sigma: 0 }', (2, 3), (2, 3))),
    ("bottom 1 of shape .1, 2, 3, 4. and bottom 2", made('type: "Axpy"', (1, 2), IMAGE, (1, 2, 3, 5))),
    ("wanted .1, 2, 1, 1.", made('type: "Axpy"', (1, 3), IMAGE, IMAGE)),
    ("group 3 must divide", made('type: "ShuffleChannel" shuffle_channel_param { group: 3 }', IMAGE)),
    ("num_output 4 and group 1, wanted as many outputs .* 2", made(
        'type: "ConvolutionDepthwise" convolution_param { num_output: 4 kernel_size: 1 }', IMAGE)),
    ("num_output 2 and group 3", made(
        'type: "DepthwiseConvolution" convolution_param { num_output: 2 kernel_size: 1 group: 3 }', IMAGE)),
]


@pytest.mark.parametrize("message, case", REFUSED, ids=[m for m, _ in REFUSED])
def test_refused(message: str, case: Case):
    with pytest.raises(CaffeError, match="Layer 'layer'.*" + message):
        run_case(caffe, case)


def test_gradients_that_cannot_be_are_errors():
    Path("net.prototxt").write_text("".join(
        'layer { name: "%s" type: "Parameter" top: "%s" parameter_param { shape { dim: 1 dim: %d } } }' % (n, n, d)
        for n, d in (("o", 8), ("s", 4))) + """
        layer { name: "p" type: "Input" top: "p" input_param { shape { dim: 1 dim: 2 dim: 8 } } }
        layer { name: "layer" type: "DetectionOutput" bottom: "o" bottom: "s" bottom: "p" top: "d" loss_weight: 1
                detection_output_param { num_classes: 2 } }""")
    net = caffe.Net("net.prototxt", caffe.TEST)
    net.forward()
    with pytest.raises(CaffeError, match="Layer 'layer'.*has no gradient"):
        net.backward()


# -- on and off ------------------------------------------------------------------------------------------------------------
NET = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 2 dim: 3 dim: 4 } } }
layer { name: "up" type: "Interp" bottom: "x" top: "up" interp_param { zoom_factor: 8 } }"""
HOW = "DeepLab v2.*off.*import torchcaffe.extras.*TORCHCAFFE_EXTRAS=1.*-extras"


def test_off_is_bvlcs(monkeypatch):
    monkeypatch.setattr(forks, "_enabled", False)
    monkeypatch.delenv(forks.VARIABLE, raising=False)
    assert caffe.layer_type_list() == sorted(layer.CATALOGUE)
    assert not set(forks.MESSAGES) & set(dir(facade))
    with pytest.raises(AttributeError, match="LabelMap.*import torchcaffe.extras"):
        facade.LabelMap  # noqa: B018
    assert "Interp" not in net_spec.param_name_dict()
    with pytest.raises(AttributeError, match=HOW):
        L.Interp(L.Input(), zoom_factor=8).to_proto()
    with pytest.raises(AttributeError, match="no parameter message PriorBoxParameter"):
        P.PriorBox  # noqa: B018
    Path("net.prototxt").write_text(NET)
    with pytest.raises(CaffeError, match="net.prototxt: layer 'up': Interp is not BVLC's.*" + HOW):
        caffe.Net("net.prototxt", caffe.TEST)
    Path("net.prototxt").write_text(NET.replace("interp_param { zoom_factor: 8 }", ""))
    with pytest.raises(CaffeError, match="Layer 'up': unknown layer type 'Interp': Interp is not BVLC's.*" + HOW):
        caffe.Net("net.prototxt", caffe.TEST)
    Path("net.prototxt").write_text(NET.replace("Interp", "ReLU"))
    with pytest.raises(CaffeError, match="layer 'up': interp_param is a parameter of a fork of Caffe, not of ReLU layers"):
        caffe.Net("net.prototxt", caffe.TEST)
    Path("net.prototxt").write_text(NET.replace("interp_param", "prior_bx_param"))
    with pytest.raises(CaffeError, match="no field named .*prior_bx_param") as caught:
        caffe.Net("net.prototxt", caffe.TEST)
    assert "prior_box_param" not in str(caught.value)


def test_a_net_with_an_extra_inside_a_solver_is_refused_too(monkeypatch):
    monkeypatch.setattr(forks, "_enabled", False)
    Path("solver.prototxt").write_text('base_lr: 1 lr_policy: "fixed" net_param { %s }' % NET.replace('"Interp"', '"ReLU"'))
    with pytest.raises(CaffeError, match="Layer 'up': interp_param is a parameter of a fork"):
        caffe.SGDSolver("solver.prototxt")


def test_on_is_more():
    assert set(caffe.layer_type_list()) == set(layer.CATALOGUE) | set(forks.FORKS)
    assert facade.LabelMap is caffe_pb2.LabelMap
    top = L.PriorBox(L.Input(), L.Input(), min_size=30, aspect_ratio=[2, 3], variance=[0.1, 0.1, 0.2, 0.2])
    assert list(top.to_proto().layer[-1].prior_box_param.aspect_ratio) == [2, 3]
    assert P.PriorBox.CENTER_SIZE == 2
    Path("net.prototxt").write_text(NET)
    assert caffe.Net("net.prototxt", caffe.TEST).blobs["up"].shape == (1, 2, 17, 25)


def test_the_messages_of_forks_are_all_that_bvlc_does_not_have():
    used, todo = set(), [f.message_type for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields if f.number >= forks.FIRST_FIELD]
    bvlc = set(caffe_pb2.DESCRIPTOR.message_types_by_name) - forks.MESSAGES
    while todo:
        message = todo.pop()
        if message.name not in used and message.name not in bvlc:
            used.add(message.name)
            todo += [f.message_type for f in message.fields if f.message_type]
    assert used | {"LabelMap", "LabelMapItem"} == forks.MESSAGES
    assert max(f.number for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields if f.number < forks.FIRST_FIELD) == 148


def run_python(code: str, **environment: str) -> str:
    """What a fresh Python prints that has only the façade's folder on its path."""
    folder = str(Path(__file__).parent.parent / "torchcaffe" / "pycaffe")
    return subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": folder, "GLOG_minloglevel": "2", **environment},
                          capture_output=True, text=True, check=True).stdout.strip()


def test_every_way_to_switch_them_on(monkeypatch):
    emit = "caffe.layers.Interp(zoom_factor=2).to_proto(); print('emitted,', 'torch' in sys.modules)"
    assert run_python("import caffe, sys, torchcaffe.extras; " + emit) == "emitted, False"
    assert run_python("import caffe, sys; " + emit, TORCHCAFFE_EXTRAS="1") == "emitted, False"
    monkeypatch.setattr(forks, "_enabled", False)
    for value, on in (("1", True), ("0", False), ("", False)):
        monkeypatch.setenv(forks.VARIABLE, value)
        assert ("Interp" in caffe.layer_type_list()) == on


def test_the_command_has_a_flag(monkeypatch, capsys):
    monkeypatch.setattr(forks, "_enabled", False)
    monkeypatch.setenv("GLOG_minloglevel", "0")
    Path("net.prototxt").write_text(NET)
    arguments = ["time", "-model", "net.prototxt", "-phase", "TEST", "-iterations", "1"]
    assert command.main(arguments) == 134
    assert "the flag -extras" in capsys.readouterr().err
    assert command.main([*arguments, "-extras"]) == 0
    assert "up\tforward" in capsys.readouterr().err
