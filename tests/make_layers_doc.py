"""Writes docs/layers.md: every layer type of BVLC's Caffe, its parameters, and what stands behind it. `make docs`.

Nothing in it is written by hand: types and areas are the modules of torchcaffe/layers, sources and deviations their
docstrings, parameters and defaults caffe.proto, cases tests/cases.py. tests/test_layers_doc.py holds the file to it.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE, HERE.parent):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

import cases  # noqa: E402
import refused  # noqa: E402

import torchcaffe.layers  # noqa: E402, F401  fills CATALOGUE
from torchcaffe.layer import CATALOGUE, Layer  # noqa: E402
from torchcaffe.layers import data_transformer  # noqa: E402
from torchcaffe.proto import caffe_pb2  # noqa: E402

TARGET = HERE.parent / "docs" / "layers.md"
AREAS = {"Data": ("data", "image_data"), "Vision": ("vision",), "Recurrent": ("recurrent",), "Common": ("common",),
         "Normalization": ("normalization",), "Activation": ("activation",), "Utility": ("utility",), "Loss": ("loss",)}
FIELDS = {f.name: f for f in caffe_pb2.LayerParameter.DESCRIPTOR.fields if f.name.endswith("_param")}
HEAD = """# The layers, all %d of them

Written by `make docs`; don't edit. Types are those of BVLC's last version; what forks of Caffe added is in
[extras.md](extras.md). A case is a layer with inputs and parameters whose results, forward and backward, were recorded
from a real Caffe (tests/goldens/layers.npz) and are compared in `make test`, live in `make parity`; a refusal is a
definition that both refuse, here with an error that names the layer (tests/refused.py). Deviations of the whole engine are
in [deviations.md](deviations.md).
"""
PARAMETERS = """
## Parameters

The messages of the column "parameters", field by field, as in caffe.proto. Last column: the number of cases that set the
field, of all types that have the message.

| parameter | kind | default | cases |
|---|---|---|---|
"""


def text() -> str:
    """The whole document."""
    lines = [HEAD % len(CATALOGUE)]
    counts, refusals = (Counter(type_of(case.layer) for case in these) for these in
                        (cases.CASES, [r.case for r in refused.REFUSED if not r.only_here]))
    for area, modules in AREAS.items():
        lines += ["\n## %s\n" % area, "| type | Caffe's file | parameters | cases | refusals | deviations |",
                  "|---|---|---|---|---|---|"]
        for name, cls in sorted(CATALOGUE.items()):
            if cls.__module__.rpartition(".")[2] in modules:
                lines.append("| %s | %s | %s | %d | %d | %s |" % (
                    name, source(cls), ", ".join("`%s`" % p for p in parameters(cls)), counts[name], refusals[name],
                    deviations(cls)))
    lines.append(PARAMETERS.rstrip("\n"))
    for name in sorted({p for cls in CATALOGUE.values() for p in parameters(cls)}):
        using = [case.layer for case in cases.CASES if name in parameters(CATALOGUE[type_of(case.layer)])]
        for field in FIELDS[name].message_type.fields:
            set_by = sum(bool(re.search(r"\b%s\s*[:{]" % field.name, layer)) for layer in using)
            lines.append("| `%s.%s` | %s | %s | %d |" % (name, field.name, kind(field), default(field), set_by))
    return "\n".join(lines) + "\n"


def type_of(layer: str) -> str:
    """The type a case is about."""
    return re.search(r'type: "(\w+)"', layer).group(1)


def source(cls: type[Layer]) -> str:
    """The file a layer follows, from its docstring or its bases'."""
    for one in cls.__mro__:
        found = re.search(r"Follows\s+((?:src|include)/[\w/.]+)", one.__doc__ or "")
        if found:
            return found.group(1).rstrip(".").removeprefix("src/caffe/layers/")
    raise SystemExit("%s: its docstring does not say which file it follows" % cls.__name__)


def deviations(cls: type[Layer]) -> str:
    """What a layer's docstring says of them."""
    found = re.search(r"Deviations?: (.*?)(?=\n\s*Follows)", cls.__doc__ or "", re.DOTALL)
    return " ".join(found.group(1).split()) if found else ""


@functools.cache
def parameters(cls: type[Layer]) -> list[str]:
    """The messages a layer reads: those named in its code, and in the helpers that it calls."""
    code = "".join(inspect.getsource(one) for one in cls.__mro__ if one.__module__.startswith("torchcaffe.layers."))
    module = sys.modules[cls.__module__]
    for name in re.findall(r"\b(\w+)\(", code):
        called = getattr(module, name, None)
        if inspect.isfunction(called) or called is data_transformer.DataTransformer:
            code += inspect.getsource(called)
    return [name for name in FIELDS if re.search(r"\b%s\b" % name, code)]


def kind(field: object) -> str:
    """A field's type, as in caffe.proto."""
    names = {number: name[5:].lower() for name, number in vars(type(field)).items() if name.startswith("TYPE_")}
    name = (field.message_type.name if field.message_type else " or ".join(
        v.name for v in field.enum_type.values) if field.enum_type else names[field.type])
    return "several %s" % name if field.is_repeated else name


def default(field: object) -> str:
    """A field's default value."""
    if field.is_repeated or field.message_type:
        return ""
    value = field.default_value
    if field.enum_type:
        value = field.enum_type.values_by_number[value].name
    if isinstance(value, bool):
        return str(value).lower()
    return "%g" % value if isinstance(value, float) else str(value)


if __name__ == "__main__":
    TARGET.write_text(text())
    print("docs/layers.md: %d layer types" % len(CATALOGUE))
