"""The page of guarantees names tests that exist."""

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "guarantees.md"


def test_every_promise_names_a_test_that_exists():
    if not PAGE.exists():
        pytest.skip("The page is in the repository, and not in the package.")
    text = PAGE.read_text()
    named = re.findall(r"`(test_\w+\.py)::(\w+)`", text)
    assert len(named) >= 30
    for file, name in named:
        functions = {node.name for node in ast.parse((HERE / file).read_text()).body if hasattr(node, "name")}
        assert name in functions, f"{file}::{name}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.endswith("| held by |")]
    assert all("::" in row for row in rows)
