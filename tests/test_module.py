"""A Net as a torch.nn.Module: every layer case through it against the real Caffe's goldens, and what torch users expect."""

from __future__ import annotations

import copy
import ctypes
import re
from pathlib import Path

import caffe
import extras_cases
import h5py
import numpy as np
import pytest
import torch
from cases import CASES
from layer_case import Case, numbers
from layer_files import write_files
from parity.compare_cases import TOLERANCE, arrays_of, difference
from parity.run_cases import prototxt, run_case

from torchcaffe import forks
from torchcaffe.errors import CaffeError
from torchcaffe.module import NetModule


def no_gradient(case: Case, name: str, wanted: np.ndarray) -> bool:
    """Whether it is right that the module has no such array."""
    if name.startswith("param"):  # lr_mult is 0: requires_grad is False, while recurrent layers in Caffe compute it anyway
        return "lr_mult: 0" in case.layer or "frozen: true" in case.layer or not wanted.any()
    return name.startswith("bottom") and ((wanted == 7).all() or not wanted.any())


GOLDENS = Path(__file__).parent / "goldens" / "layers.npz"


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Nets write their files into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GLOG_minloglevel", "2")


@pytest.fixture(scope="module")
def goldens() -> dict[str, dict[str, np.ndarray]]:
    """case name -> array name -> array, as the real Caffe computed them."""
    with np.load(GOLDENS) as file:
        return arrays_of(file)


def build(text: str, phase: int = caffe.TRAIN) -> caffe.Net:
    """A net of this prototxt."""
    Path("net.prototxt").write_text(text)
    return caffe.Net("net.prototxt", phase)


def run_module(case: Case) -> dict[str, np.ndarray]:
    """The arrays of a case, as parity.run_cases.run_net finds them, by way of a module and torch.autograd.

    What gets no gradient here is not among them.
    """
    random = case.random()
    write_files(caffe, case, random)
    if case.seed is not None:
        caffe.set_random_seed(case.seed)
        ctypes.CDLL(None).srand(case.seed)
    net = build(prototxt(case), getattr(caffe, case.phase))
    params = list(net.params["layer"]) if "layer" in net.params else []
    if case.params != ("filler",):
        for i, blob in enumerate(params):
            blob.data[...] = numbers(random, blob.data.shape, case.params[i] if case.params else "normal")
    if case.memory:
        net.set_input_arrays(*(numbers(random, b.shape, b.values) for b in case.memory))
    module, layer = NetModule(net), net.layer_dict["layer"]
    module.outputs = net.top_names["layer"]
    sums: dict[int, np.ndarray] = {}
    for now in [tuple(b.shape for b in case.bottoms)] * case.passes + ([case.then] if case.then else []):
        inputs = {name: torch.zeros(net.blobs[name].shape) for name in net.inputs}
        sources = []
        for i, (bottom, shape) in enumerate(zip(case.bottoms, now)):
            name, values = "x%d" % i, torch.from_numpy(numbers(random, shape, bottom.values))
            if name in net.params:
                net.params[name][0].data[...] = values.numpy()
                sources.append(net.params[name][0].memory.lent())
            else:
                inputs[name] = values.requires_grad_(case.gradients is None and layer.allow_force_backward(i))
                sources.append(inputs[name])
        outputs = module(**inputs)
        arrays = {"top%d" % i: value.detach().numpy() for i, value in enumerate(outputs.values())}
        if not case.backward:
            continue
        weights = [net.blob_loss_weight(name) for name in outputs]
        grads = [torch.full_like(value, weight) for value, weight in zip(outputs.values(), weights)]
        if not any(weights) or "Loss" not in case.layer:
            grads = [torch.from_numpy(numbers(random, value.shape, "normal")) for value in outputs.values()]
        pairs = [(value, grad) for value, grad in zip(outputs.values(), grads) if value.requires_grad]
        wanted = {"bottom%d_diff" % i: x for i, x in enumerate(sources) if x.requires_grad}
        wanted.update(("param%d_diff" % i, b.memory.lent()) for i, b in enumerate(params) if b.memory.lent().requires_grad)
        if not pairs:
            continue
        values, grads = zip(*pairs)
        for name, grad in zip(wanted, torch.autograd.grad(values, list(wanted.values()), grads, allow_unused=True)):
            if grad is not None:  # parameters' gradients add up in Caffe
                arrays[name] = sums[name] = sums.get(name, 0) + grad.numpy() if name.startswith("param") else grad.numpy()
    return arrays | {"param%d" % i: blob.data.copy() for i, blob in enumerate(params)}


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_as_the_real_caffe(case: Case, goldens):
    check(case, goldens[case.name])


@pytest.mark.parametrize("case", extras_cases.CASES, ids=lambda c: c.name)
def test_extras_as_the_net(case: Case, monkeypatch):
    monkeypatch.setattr(forks, "_enabled", True)
    check(case, run_case(caffe, case))


def check(case: Case, arrays: dict[str, np.ndarray]) -> None:
    """The module's arrays of a case are these."""
    got = run_module(case)
    for path in re.findall(r'file_name: "(\w+\.h5)"', case.layer):  # closed by now: the net is gone
        with h5py.File(path, "r") as f:
            got.update((name, dataset[()]) for name, dataset in f.items())
    for name, wanted in arrays.items():
        if name in got and (wanted == 7).all():
            assert not got[name].any(), name  # run_net puts 7 into diffs, and Caffe did not write this one
        elif name in got:
            error = difference(wanted, got[name])
            assert error <= (0 if case.exact else TOLERANCE), "%s is off by %.1e of its largest value" % (name, error)
        else:
            assert no_gradient(case, name, wanted), name


NET = """
layer { name: "data" type: "Input" top: "data" top: "label"
        input_param { shape { dim: 2 dim: 3 dim: 6 dim: 6 } shape { dim: 2 } } }
layer { name: "conv/1.a" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 0 }
        convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "norm" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer { name: "type" type: "InnerProduct" bottom: "conv" top: "score" param { lr_mult: 1 decay_mult: 1 }
        param { lr_mult: 2 decay_mult: 0 } inner_product_param { num_output: 5 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "score" bottom: "label" top: "loss" loss_weight: 3 }
layer { name: "accuracy" type: "Accuracy" bottom: "score" bottom: "label" top: "accuracy" }
"""
PARAMS = ["conv/1.a.weight", "conv/1.a.bias", "type.weight", "type.bias"]
STATISTICS = ["norm.mean_sum", "norm.variance_sum", "norm.sum_weight"]


def param(module: NetModule, name: str) -> torch.nn.Parameter:
    """A parameter by name; get_parameter cannot find those of a layer that is called as some attribute of modules is."""
    return dict(module.named_parameters())[name]


def batch(seed: int = 0) -> dict[str, torch.Tensor]:
    """Inputs for NET."""
    random = torch.Generator().manual_seed(seed)
    return {"data": torch.randn(2, 3, 6, 6, generator=random), "label": torch.tensor([seed % 5, 3])}


def test_names_kinds_and_order():
    module = NetModule(build(NET))
    assert [n for n, _ in module.named_parameters()] == PARAMS
    assert [n for n, _ in module.named_buffers()] == STATISTICS
    assert sorted(module.state_dict()) == sorted(PARAMS + STATISTICS)
    assert [p.requires_grad for p in module.parameters()] == [False, True, True, True]
    assert module.inputs == ["data", "label"] and module.outputs == ["accuracy", "loss"]
    outputs = module(*batch().values())
    assert list(outputs) == ["accuracy", "loss"] and outputs["loss"].shape == ()
    assert module.loss(outputs).item() == pytest.approx(3 * outputs["loss"].item())
    assert "data, label -> accuracy, loss" in repr(module)


def test_gradients_are_those_of_backward():
    net, other = build(NET), build(NET)
    module = NetModule(net)
    module.load_state_dict(NetModule(other).state_dict())
    for one in (net, other):  # the masks of dropout
        caffe.set_random_seed(1)
        if one is net:
            outputs = module(**batch())
            module.loss(outputs).backward()
        else:
            for name, x in batch().items():
                other.blobs[name].data[...] = x.numpy()
            assert other.forward()["loss"] == outputs["loss"].item()
            other.clear_param_diffs()
            other.backward()
    for (name, tensor), blob in zip(module.named_parameters(), [*other.params["conv/1.a"], *other.params["type"]]):
        if tensor.requires_grad:
            np.testing.assert_allclose(tensor.grad.numpy(), blob.diff, rtol=1e-6, err_msg=name)  # 3 * loss: one rounding
    assert not any(b.diff.any() for bs in net.params.values() for b in bs)
    assert net.blobs["loss"].diff == 3  # the loss weight is where it was


@pytest.mark.parametrize("held", [False, True], ids=["", "numpy views held"])
def test_one_memory_whoever_writes(held: bool):
    net = build(NET)
    blobs = [b for bs in net.params.values() for b in bs]
    views = [b.data for b in blobs] if held else []
    module = NetModule(net)
    tensors = [module.state_dict(keep_vars=True)[n] for n in PARAMS[:2] + STATISTICS + PARAMS[2:]]
    optimizer = torch.optim.SGD(module.param_groups(lr=0.1), momentum=0.9)
    for step in range(3):
        module.loss(module(**batch(step))).backward()
        optimizer.step()  # torch writes
        net.forward()  # the net does, into the statistics of BatchNorm, by handing over results
        net.params["type"][1].data[...] += 1  # numpy does
        with torch.no_grad():
            param(module, "conv/1.a.bias").fill_(step)
        for tensor, blob in zip(tensors, blobs):
            assert tensor.data_ptr() == blob.value.data_ptr()
            np.testing.assert_array_equal(tensor.detach().numpy(), blob.data)
        for view, blob in zip(views, blobs):
            np.testing.assert_array_equal(view, blob.data)
    assert net.params["norm"][2].data[0] > 5 and net.params["conv/1.a"][1].data[0] == 2


def test_replaced_parameters_are_taken_over():
    net = build(NET)
    module, view = NetModule(net), net.params["type"][1].data
    param(module, "type.bias").data = torch.arange(5.0)
    module.load_state_dict({**module.state_dict(), "conv/1.a.bias": torch.full((4,), 7.0)}, assign=True)
    module.to("cpu", memory_format=torch.channels_last)
    module.eval()(**batch())
    assert view.tolist() == [0, 1, 2, 3, 4] and (net.params["conv/1.a"][1].data == 7).all()
    param(module, "type.bias").data.fill_(2)
    param(module, "conv/1.a.weight").data.fill_(2)
    assert (view == 2).all() and (net.params["conv/1.a"][0].data == 2).all()


def test_trains_as_the_solver_does():
    Path("solver.prototxt").write_text('train_net: "net.prototxt" base_lr: 0.05 momentum: 0.9 weight_decay: 0.01 '
                                       'lr_policy: "fixed" snapshot_after_train: false')
    text = NET.replace('layer { name: "accuracy"', 'layer { name: "accuracy" include { phase: TEST }')
    module = NetModule(build(text))
    solver = caffe.SGDSolver("solver.prototxt")
    module.load_state_dict(NetModule(solver.net).state_dict())
    optimizer = torch.optim.SGD(module.param_groups(0.05, 0.01), momentum=0.9)
    for step in range(4):
        for name, x in batch(step).items():
            solver.net.blobs[name].data[...] = x.numpy()
        caffe.set_random_seed(step)
        solver.step(1)
        caffe.set_random_seed(step)
        optimizer.zero_grad()
        module.loss(module(**batch(step))).backward()
        optimizer.step()
    for name, tensor in module.state_dict().items():
        # lr * (momentum * v + g) here, momentum * v + lr * g there: a rounding more in each of 4 steps
        torch.testing.assert_close(tensor, NetModule(solver.net).state_dict()[name], rtol=1e-5, atol=1e-6, msg=name)


def test_several_calls_before_one_backward():
    module = NetModule(build(NET), ["score"])
    calls = [(batch(i)["data"], i + 1) for i in range(3)]
    alone = []
    for step, (x, scale) in enumerate(calls):
        caffe.set_random_seed(step)
        alone.append(torch.autograd.grad((module(x)["score"] * scale).sum(), param(module, "type.weight"))[0])
    total = 0
    for step, (x, scale) in enumerate(calls):
        caffe.set_random_seed(step)
        total = total + (module(x)["score"] * scale).sum()
        with torch.no_grad():
            module(x[:1] * 100)
    total.backward()
    torch.testing.assert_close(param(module, "type.weight").grad, sum(alone), rtol=1e-5, atol=1e-5)


def test_trunk_in_a_larger_model():
    """Only what the output needs runs, and blobs inside get their gradient from both their readers and the caller."""
    net = build("""
        layer { name: "data" type: "Input" top: "data" top: "other" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "a" type: "InnerProduct" bottom: "data" top: "a"
                inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
        layer { name: "relu" type: "ReLU" bottom: "a" top: "a" }
        layer { name: "b" type: "InnerProduct" bottom: "a" top: "b"
                inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }
        layer { name: "loss" type: "EuclideanLoss" bottom: "a" bottom: "other" top: "loss" }""".replace(
            'num_output: 4', 'num_output: 3'), caffe.TEST)
    module = NetModule(net, ["a", "b"])
    assert module.inputs == ["data"] and module._layers == [0, 1, 2, 3, 4]  # 3 is the split of a
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), module)
    assert "1.a.weight" in model.state_dict()
    x = torch.randn(2, 5, requires_grad=True)
    outputs = model(x)
    (outputs["a"].square().sum() + outputs["b"].sum()).backward()
    w, v = (module.state_dict()[n].clone().requires_grad_() for n in ("a.weight", "b.weight"))
    y = x.detach().requires_grad_()
    a = torch.relu(model[0](y) @ w.t())
    grads = torch.autograd.grad(a.square().sum() + (a @ v.t()).sum(), (y, w, v))
    for got, wanted in zip((x.grad, param(module, "a.weight").grad, param(module, "b.weight").grad), grads):
        torch.testing.assert_close(got, wanted)
    only_b = torch.autograd.grad(model(x)["b"].sum(), param(module, "a.weight"))[0]
    torch.testing.assert_close(only_b, torch.autograd.grad((torch.relu(model[0](y) @ w.t()) @ v.t()).sum(), w)[0])


def test_train_and_eval():
    net = build(NET)
    module = NetModule(net, ["score"])
    assert module.training and not NetModule(build(NET, caffe.TEST)).training
    x = batch()["data"]
    count = net.params["norm"][2].data[0]
    module(x)
    assert net.params["norm"][2].data[0] == count + 1
    module.eval()
    assert torch.equal(module(x)["score"], module(x)["score"]) and net.params["norm"][2].data[0] == count + 1
    for text in (STOCHASTIC, STOCHASTIC.replace("Pooling", "SPP").replace("pooling_param { pool: STOCHASTIC kernel_size: 2",
                                                                         "spp_param { pool: STOCHASTIC pyramid_height: 2")):
        pool = NetModule(build(text))
        y = torch.rand(1, 1, 40, 40)
        assert not torch.equal(pool(y)["y"], pool(y)["y"])
        assert torch.equal(pool.eval()(y)["y"], pool(y)["y"])
    assert all(layer.phase == caffe.TRAIN for layer in net.layers)  # the net itself goes on as it was built
    net.forward()
    assert net.params["norm"][2].data[0] > count + 1


STOCHASTIC = """layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 1 dim: 4 dim: 4 } } }
layer { name: "y" type: "Pooling" bottom: "x" top: "y" pooling_param { pool: STOCHASTIC kernel_size: 2 } }"""


def test_nets_that_share_parameters():
    net, other = build(NET), build(NET, caffe.TEST)
    other.share_with(net)
    module, sharer = NetModule(net), NetModule(other)
    assert all(a is b for a, b in zip(module.parameters(), sharer.parameters()))
    assert all(a is b for a, b in zip(module.buffers(), sharer.buffers()))
    shared = NetModule(build("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
        layer { name: "a" type: "InnerProduct" bottom: "x" top: "a" param { name: "w" } inner_product_param {
                num_output: 3 bias_term: false weight_filler { value: 2 } } }
        layer { name: "b" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } inner_product_param {
                num_output: 3 bias_term: false } }"""))
    assert [n for n, _ in shared.named_parameters()] == ["a.weight"]
    assert sorted(shared.state_dict()) == ["a.weight", "b.weight"]
    x = torch.randn(2, 3)
    shared(x)["b"].sum().backward()
    w = torch.full((3, 3), 2.0, requires_grad=True)
    (x @ w.t() @ w.t()).sum().backward()
    torch.testing.assert_close(param(shared, "a.weight").grad, w.grad)


class Keeps(caffe.Layer):
    """Half the input; keeps it in an array of its own, in place, as many Python layers do."""

    def setup(self, bottom, top):
        self.kept = np.zeros(bottom[0].data.shape, np.float32)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].data.shape)

    def forward(self, bottom, top):
        self.kept[...] = bottom[0].data
        top[0].data[...] = bottom[0].data ** 2

    def backward(self, top, propagate_down, bottom):
        bottom[0].diff[...] = 2 * self.kept * top[0].diff


def test_python_layers():
    module = NetModule(build("""
        layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 } } }
        layer { name: "y" type: "Python" bottom: "x" top: "y" python_param { module: "test_module" layer: "Keeps" } }"""))
    x, y = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2, 3], [4.0, 5, 6]))
    (module(x)["y"] + 10 * module(y)["y"]).sum().backward()
    assert x.grad.tolist() == [2, 4, 6] and y.grad.tolist() == [80, 100, 120]


@pytest.mark.parametrize("wrong, message", [
    (lambda m: m(), "got 0 inputs by place and none by name, wanted each of 'data', 'label'"),
    (lambda m: m(torch.zeros(1), torch.zeros(1), torch.zeros(1)), "got 3 inputs"),
    (lambda m: m(batch()["data"], data=batch()["data"]), "by name, wanted each of"),
    (lambda m: m(np.zeros(3), torch.zeros(1)), "input 'data' is a ndarray, wanted a tensor on cpu"),
    (lambda m: m(torch.zeros(1, device="meta"), torch.zeros(1)), "input 'data' is on meta"),
    (lambda m: m(torch.zeros(2, 4, 6, 6), torch.zeros(2)), r"Layer 'conv/1.a' .*wanted 4 axes with 3 channels"),
    (lambda m: m.half(), "float32.*not in torch.float16"),
    (lambda m: m.to("meta"), "on meta"),
    (lambda m: copy.deepcopy(m), "cannot be pickled or copied; save state_dict"),
    (lambda m: NetModule(m.net, ["absent"]), "no blob 'absent'; it has data"),
    (lambda m: NetModule(m.net, ["score"]).loss({"score": torch.zeros(1)}), "none of its outputs .score. has a loss_weight"),
    (lambda m: m(batch()["data"], torch.zeros(2, requires_grad=True))["loss"].backward(), "cannot backpropagate to label"),
], ids=str)
def test_refused(wrong, message):
    module = NetModule(build(NET))
    with pytest.raises(CaffeError, match=message):
        wrong(module)
    module(**batch())["loss"].backward()  # it still works


def test_backward_of_what_is_gone_is_refused():
    net = build(NET)
    module = NetModule(net)
    loss = module(**batch())["loss"]
    net.forward()
    with pytest.raises(CaffeError, match="itself ran forward after the module did"):
        loss.backward()
    loss = module(**batch())["loss"]
    with torch.no_grad():
        param(module, "type.weight").add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    other = build(NET)
    other.share_with(net)
    stale = NetModule(other)
    other.share_with(build(NET))
    with pytest.raises(CaffeError, match="other memory than when the module was made"):
        stale(**batch())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    net = build(NET)
    x = batch()
    wanted = NetModule(net, ["score"]).eval()(x["data"])["score"]
    module = NetModule(net, ["score"]).eval().cuda()
    score = module(x["data"].cuda())["score"]
    torch.testing.assert_close(score.cpu(), wanted, rtol=1e-4, atol=1e-4)
    score.sum().backward()
    bias = param(module, "type.bias")
    before = net.params["type"][1].data.copy()  # looked at between backward and step
    torch.optim.SGD([bias], lr=1).step()
    np.testing.assert_allclose(net.params["type"][1].data, before - bias.grad.cpu().numpy())
    net.params["type"][1].data[...] = 3
    module(x["data"].cuda())
    assert (bias == 3).all() and not net.blobs["score"].value.is_cuda and caffe.TRAIN == net.phase
    module.cpu()
    assert net.params["type"][1].data.tolist() == [3] * 5
