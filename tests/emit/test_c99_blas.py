"""Matrix products that C leaves to CBLAS: every layout, against NumPy, with a CBLAS of a few lines."""

import ctypes
from itertools import product

import numpy as np

import flatgrad as fg
from flatgrad.emit.c99 import source
from flatgrad.graph import dtypes
from flatgrad.lower import ir
from support.c import STRICT, compiler, run

HEADER = """\
enum { CblasRowMajor = 101, CblasNoTrans = 111, CblasTrans = 112 };
void cblas_dgemm(int order, int ta, int tb, int m, int n, int k, double alpha, const double *a, int lda,
                 const double *b, int ldb, double beta, double *c, int ldc);
void cblas_sgemm(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc);
"""
# As BLAS defines it; beta = 0 does not read c.
BODY = """\
#include <cblas.h>
#define GEMM(name, T)                                                                                  \\
    void name(int order, int ta, int tb, int m, int n, int k, T alpha, const T *a, int lda, const T *b, \\
              int ldb, T beta, T *c, int ldc)                                                           \\
    {                                                                                                   \\
        (void)order;                                                                                    \\
        for (int i = 0; i < m; ++i)                                                                     \\
            for (int j = 0; j < n; ++j) {                                                               \\
                T sum = 0;                                                                              \\
                for (int p = 0; p < k; ++p)                                                             \\
                    sum += (ta == CblasTrans ? a[p * lda + i] : a[i * lda + p]) *                       \\
                           (tb == CblasTrans ? b[j * ldb + p] : b[p * ldb + j]);                        \\
                c[i * ldc + j] = alpha * sum + (beta == 0 ? 0 : beta * c[i * ldc + j]);                 \\
            }                                                                                           \\
    }
GEMM(cblas_dgemm, double)
GEMM(cblas_sgemm, float)
"""
M, N, K = 3, 4, 5


def library(folder, texts: dict):
    """Shared library of C texts and the CBLAS above."""
    (folder / "cblas.h").write_text(HEADER)
    for name, text in {"blas": BODY, **texts}.items():
        (folder / f"{name}.c").write_text(text)
    files = [folder / f"{name}.c" for name in ("blas", *texts)]
    made = folder / "library.so"
    run([*compiler(), *STRICT, "-O1", "-fPIC", "-shared", f"-I{folder}", *files, "-o", made])
    return ctypes.CDLL(str(made))


def place(rows: int, cols: int, turned: bool) -> tuple:
    """(strides) of a matrix that lies by rows, or by columns."""
    return (1, rows) if turned else (cols, 1)


def test_every_layout(tmp_path):
    cases = [*product((False, True), repeat=4), (False, True, False, False)]
    programs, texts = [], {}
    for k, (ta, tb, tc, accumulate) in enumerate(cases):
        dtype = dtypes.float32 if k == len(cases) - 1 else dtypes.float64
        # The first two elements of each array lie before its matrix.
        a, b = (ir.Buffer(n, dtype, 2 + s, "in", (2 + s,)) for n, s in (("a", M * K), ("b", K * N)))
        c = ir.Buffer("c", dtype, 2 + M * N, "out", (2 + M * N,))
        two = ir.index(2)
        gemm = ir.Gemm(
            dtype,
            M,
            N,
            K,
            (a, two, *place(M, K, ta)),
            (b, two, *place(K, N, tb)),
            (c, two, *place(M, N, tc)),
            accumulate,
        )
        programs.append(ir.Program([a, b], [c], [gemm], [], {}, [], [c]))
        texts[f"f{k}"] = source(programs[-1], f"f{k}").text
    lib = library(tmp_path, texts)
    rng = np.random.default_rng(3)
    for k, (ta, tb, tc, accumulate) in enumerate(cases):
        kind = programs[k].inputs[0].dtype.np
        a, b, c = (rng.standard_normal(2 + s).astype(kind) for s in (M * K, K * N, M * N))
        before = c.copy()
        assert call(lib[f"f{k}"], [a, b], [c]) == 0
        x = a[2:].reshape(K, M).T if ta else a[2:].reshape(M, K)
        y = b[2:].reshape(N, K).T if tb else b[2:].reshape(K, N)
        z = (lambda v: v[2:].reshape(N, M).T if tc else v[2:].reshape(M, N))(before)
        want = x @ y + z * accumulate
        found = c[2:].reshape(N, M).T if tc else c[2:].reshape(M, N)
        np.testing.assert_allclose(found, want, rtol=32 * np.finfo(kind).eps, atol=1e-6)
        assert np.array_equal(c[:2], before[:2])
        assert call(lib[f"f{k}"], [a, b], [None]) == 0  # skipped


def call(function, inputs, outputs) -> int:
    def pointers(arrays):
        return (ctypes.c_void_p * len(arrays))(
            *[None if a is None else a.ctypes.data for a in arrays]
        )

    return function(pointers(inputs), pointers(outputs), None)


def test_export_calls_it_for_large_products_alone(tmp_path):
    def f(x, w):
        return x @ w, (x[:3, :3] @ w[:3, :3]).sum()

    x, w = (np.random.default_rng(k).standard_normal((80, 80)) for k in (0, 1))
    made = fg.export(f, x, w, name="large", path=tmp_path, blas="cblas")
    assert made.source.count("cblas_dgemm(") == 1
    assert made.libraries == ["cblas"]
    lib = library(tmp_path, {"large": made.source})
    found, total = np.empty((80, 80)), np.empty(())
    work = np.empty(max(made.memory["work"], 1), np.uint8)
    inputs = (ctypes.c_void_p * 2)(x.ctypes.data, w.ctypes.data)
    outputs = (ctypes.c_void_p * 2)(found.ctypes.data, total.ctypes.data)
    assert lib.large(inputs, outputs, ctypes.c_void_p(work.ctypes.data)) == 0
    np.testing.assert_allclose(found, x @ w, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(total, (x[:3, :3] @ w[:3, :3]).sum(), rtol=1e-12)
