"""BLAS for compiled programs without the rest of scipy.linalg, and scipy.linalg unharmed after it."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import sys
import numpy as np
import flatgrad as fg

a = np.random.default_rng(0).standard_normal((96, 80))
with fg.set_compile("always"):
    product = (fg.tensor(a) @ fg.tensor(a.T) * 2.0).numpy()
assert np.allclose(product, a @ a.T * 2.0, rtol=1e-12)
assert [m for m in sys.modules if m.startswith("scipy.linalg")] == [], "scipy.linalg was imported"

import scipy.linalg.cython_blas
assert "dgemm" in scipy.linalg.cython_blas.__pyx_capi__
assert np.allclose(scipy.linalg.inv(product[:3, :3]) @ product[:3, :3], np.eye(3))
with fg.set_compile("always"):
    again = (fg.tensor(a.T) @ fg.tensor(a) * 3.0).numpy()
    solved = fg.linalg.solve(fg.tensor(again + np.eye(80)), fg.tensor(a.T)).numpy()
assert np.allclose(again, a.T @ a * 3.0, rtol=1e-12)
assert np.allclose((again + np.eye(80)) @ solved, a.T)
print("right")
"""


def test_only_the_extension_is_imported(tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        env={**os.environ, "FLATGRAD_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "right\n"
