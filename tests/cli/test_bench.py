"""``flatgrad bench``: percentiles, deadlines, histograms."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from flatgrad.cli.bench import figures, histogram


def test_percentiles_are_times_that_were_measured():
    times = np.arange(1, 1001) * 1000  # 1 us to 1 ms
    report = figures(times[::-1], 990.5e-6, 99.0)
    assert report["p50_seconds"] == pytest.approx(500e-6)
    assert report["p99_seconds"] == pytest.approx(990e-6)
    assert report["p99.9_seconds"] == pytest.approx(999e-6)
    assert report["maximum_seconds"] == pytest.approx(1e-3)
    assert report["minimum_seconds"] == pytest.approx(1e-6)
    assert report["misses"] == 10 and report["met"] is True
    assert figures(times, 989.5e-6, 99.0)["met"] is False
    assert figures(times, 1e-3, 100.0)["met"] is True
    assert figures(times, 0.9999e-3, 100.0)["met"] is False


def test_one_call():
    report = figures(np.array([7000]), None, 99.9)
    assert report["p50_seconds"] == report["maximum_seconds"] == 7000 * 1e-9
    assert report["met"] is None and sum(b["calls"] for b in report["histogram"]) == 1


@pytest.mark.parametrize("high", [101, 130, 1000, 10**5, 10**9])
def test_the_histogram_counts_every_call_once(high):
    times = np.sort(np.random.default_rng(3).integers(100, high, 500))
    bins = histogram(times)
    assert sum(b["calls"] for b in bins) == 500
    assert bins[0]["calls"] and bins[-1]["calls"] and len(bins) <= 30
    edges = [b["from_seconds"] for b in bins] + [bins[-1]["to_seconds"]]
    assert edges == sorted(edges) and edges[0] <= times[0] * 1e-9 < edges[-1]


def test_met_and_missed(cli_json, module):
    words = ("bench", "--as-is", "--arg", "1.0", "--warmup", "1", "--calls", "5", f"{module}:slow")
    code, report = cli_json(*words, "--deadline", "60s")
    assert (code, report["met"], report["misses"], report["calls"]) == (0, True, 0, 5)
    code, report = cli_json(*words, "--deadline", "1ms")
    assert (code, report["met"], report["misses"]) == (1, False, 5)
    assert report["minimum_seconds"] >= 2e-3


def test_from_python_and_from_numba(cli_json, module):
    words = ("bench", "--transform", "grad", "--arg", "f8[4]", "--calls", "200", "--warmup", "5")
    code, report = cli_json(*words, f"{module}:rosenbrock")
    assert code == 0 and (report["calls"], report["caller"]) == (200, "python")
    assert report["tier"] == "compiled" and report["p50_seconds"] > 0
    code, report = cli_json(*words, f"{module}:rosenbrock", "--njit")
    assert code == 0 and (report["calls"], report["caller"]) == (200, "numba")


def test_text(cli, module):
    words = ("--as-is", "--arg", "1.0", "--calls", "5", "--warmup", "0", "--deadline", "1ms")
    code, out, _ = cli("bench", *words, f"{module}:slow")
    assert code == 1
    assert "slow: 5 calls from python" in out and "MISSED: 99.9 % of calls within" in out
    assert "5 of 5 calls were later" in out and "#" in out and "late" in out


def test_settings_come_back(cli_json, module):
    words = ("bench", "--as-is", "--arg", "1.0", "--calls", "3", "--gc", "off", f"{module}:slow")
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    more = () if cores is None else ("--cpu", min(cores))
    code, report = cli_json(*words, *more)
    assert code == 0 and report["gc"] == "off" and gc.isenabled()
    assert cores is None or os.sched_getaffinity(0) == cores


def test_a_period_is_kept(cli_json, module):
    words = ("bench", "--as-is", "--arg", "1.0", "--calls", "5", "--warmup", "0", f"{module}:slow")
    code, report = cli_json(*words, "--period", "5ms")
    assert code == 0 and report["period_seconds"] == pytest.approx(5e-3) and report["calls"] == 5


@pytest.mark.parametrize(
    "wrong",
    [
        ("--percentile", "0"),
        ("--percentile", "101"),
        ("--calls", "0"),
        ("--seconds", "-1"),
        ("--warmup", "-1"),
        ("--cpu", "4096"),
        ("--gc", "maybe"),
        ("--njit", "--as-is"),
        ("--njit", "--period", "1ms"),
    ],
)
def test_wrong_use(cli, module, wrong):
    code, _, err = cli("bench", f"{module}:with_example", *wrong)
    assert code == 2 and err.count("\n") == 1
