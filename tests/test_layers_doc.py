"""docs/layers.md: generated, fresh, complete."""

from __future__ import annotations

import make_layers_doc

from torchcaffe.layer import CATALOGUE


def test_fresh():
    """If this fails: make docs."""
    assert make_layers_doc.TARGET.read_text() == make_layers_doc.text()


def test_every_type_has_a_line_and_every_layer_case_counts():
    lines = make_layers_doc.text().partition("## Parameters")[0].splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| ") and not line.startswith("| type")]
    assert sorted(row[0].removeprefix("| ") for row in rows) == sorted(CATALOGUE) and len(rows) == 61
    assert sum(int(row[3]) for row in rows) == len(make_layers_doc.cases.CASES)
    assert all(row[1].endswith((".cpp", ".hpp")) and int(row[3]) > 0 for row in rows)
