"""Anomaly detection: the rule, the line, the input, the index, and the first bad forward value."""

import sys

import pytest

import flatgrad as fg
from flatgrad.autograd import detect_anomaly, set_detect_anomaly
from flatgrad.errors import GradientError
from flatgrad.graph.modes import modes
from flatgrad.tensor import node_of


def leaf(*values):
    return fg.tensor(values, dtype=fg.float64, requires_grad=True)


def line() -> int:
    return sys._getframe(1).f_lineno


def test_a_nan_of_the_backward_pass_is_located():
    x = leaf(4.0, 0.0, 1.0)
    with detect_anomaly():
        root, here = x.sqrt(), line()
        with pytest.raises(RuntimeError) as caught:
            (root * 0).sum().backward()
    text = str(caught.value)
    assert isinstance(caught.value, GradientError)
    assert "Function 'sqrt' returned nan values in its 0th output" in text
    assert f"test_anomaly.py:{here}" in text
    assert "index (1,)" in text
    assert "All values of the forward pass were finite" in text
    assert x.grad is None


def test_the_first_bad_forward_value_is_named_with_its_line_and_inputs():
    x = leaf(1.0, 0.0)
    with detect_anomaly():
        ratio, here = (x * 0) / x, line()
        with pytest.raises(GradientError) as caught:
            (ratio.exp() * 2 + 1).sum().backward()
    text = str(caught.value)
    assert f"by div at {__file__}:{here}" in text
    assert "nan at index (1,), from inputs 0.0, 0.0" in text


def test_a_loss_that_is_nan_is_reported_though_its_gradient_is_finite():
    x = leaf(1.0, float("inf"))
    with detect_anomaly(), pytest.raises(GradientError, match=r"output of sub.* is NaN itself"):
        (x - x).backward(fg.tensor([1.0, 1.0], dtype=fg.float64))


def test_finite_graphs_pass_and_values_agree():
    x = leaf(1.0, 4.0)
    with detect_anomaly():
        (x.sqrt() * 3).sum().backward()
    assert x.grad.numpy().tolist() == [1.5, 0.75]


def test_lines_of_operations_recorded_before_are_unknown():
    x = leaf(0.0)
    y = (x.sqrt() * 0).sum()
    with detect_anomaly(), pytest.raises(GradientError, match="recorded outside anomaly detection"):
        y.backward()


def test_without_check_nan_only_lines_are_kept():
    x = leaf(0.0)
    with detect_anomaly(check_nan=False):
        y = x.sqrt()
        assert "test_anomaly.py" in node_of(y).where
        (y * 0).sum().backward()
    assert x.grad.isnan().item() if hasattr(x.grad, "isnan") else x.grad.item() != x.grad.item()


def test_freed_graphs_name_the_line_too():
    x = leaf(1.0)
    with detect_anomaly():
        y = x.exp()
        y.backward()
        with pytest.raises(GradientError, match=r"exp, recorded at .*test_anomaly.py"):
            y.backward()


def test_switching():
    assert not modes.anomaly
    with set_detect_anomaly(True):
        assert modes.anomaly
        with set_detect_anomaly(False):
            assert not modes.anomaly
            assert not modes.watch
        assert modes.watch
    assert not modes.anomaly
    assert not modes.watch
    set_detect_anomaly(True)
    assert modes.anomaly
    set_detect_anomaly(False)

    @detect_anomaly()
    def inside():
        return modes.anomaly

    assert inside()
    assert not modes.anomaly
