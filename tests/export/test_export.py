"""``fg.export``: files that compile without a warning, and give the interpreter's numbers."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import ArgumentError, BudgetError, LinAlgError, TraceError, UnsupportedError
from support.c import HOSTILE, STRICT, compilers, run, selftest


def rosenbrock(x):
    return ((1 - x[:-1]) ** 2 + 100 * (x[1:] - x[:-1] ** 2) ** 2).sum()


def training_step(params, velocity, x, target):
    """SGD with momentum on a two-layer network."""

    def loss(p):
        h = fg.tanh(x @ p["w"] + p["b"])
        return ((h @ p["v"] - target) ** 2).mean()

    value, gradient = fg.value_and_grad(loss)(params)
    velocity = {k: 0.9 * velocity[k] + gradient[k] for k in params}
    return {k: params[k] - 0.1 * velocity[k] for k in params}, velocity, value


def network(rng, dtype=np.float32):
    params = {
        "w": rng.standard_normal((5, 7)).astype(dtype),
        "b": np.zeros(7, dtype),
        "v": rng.standard_normal(7).astype(dtype),
    }
    return params, {k: np.zeros_like(v) for k, v in params.items()}


def library(made):
    """The export, loaded by its own Python file."""
    if not compilers():
        pytest.skip("no C compiler is installed: exported C was NOT compiled")
    made.build(" ".join(next(iter(compilers().values()))))
    return made.load()


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", compilers().values(), ids=compilers().keys())
def test_it_compiles_clean_and_passes_its_test(tmp_path, command):
    x = np.array([1.2, -0.7, 0.3, 2.0])
    made = fg.export(fg.value_and_grad(rosenbrock), x, name="rosenbrock", path=tmp_path)
    assert "ok" in selftest(made, command)
    assert "ok" in selftest(made, command, "-ffast-math")


def test_the_self_test_can_fail(tmp_path):
    made = fg.export(fg.value_and_grad(rosenbrock), np.array([1.2, -0.7]), name="rb", path=tmp_path)
    assert "ok" in selftest(made)
    test = made.files["rb_test.c"]
    text = test.read_text()
    at = text.index("{", text.index("fg_v0_out1["))
    first = text.index("UINT64_C(0x", at) + len("UINT64_C(0x")
    digit = "0" if text[first + 3] != "0" else "f"  # an exponent's digit
    test.write_text(text[: first + 3] + digit + text[first + 4 :])
    with pytest.raises(AssertionError, match="result 1, element 0"):
        selftest(made)


def test_header_in_cplusplus(tmp_path):
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed: the header was NOT compiled as C++")
    fg.export(rosenbrock, np.zeros(3), name="rb", path=tmp_path)
    use = tmp_path / "use.cpp"
    use.write_text(
        '#include "rb.h"\nint main() { return rb(nullptr, nullptr, nullptr) + rb_n_in(); }\n'
    )
    run(["g++", "-std=c++11", "-pedantic", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", use])


def test_sizes_at_run_time_and_as_macros(tmp_path):
    def f(x, n):
        return x.sum(1) * n, x.T

    made = fg.export(f, np.zeros((2, 3), np.float32), np.int64(3), path=tmp_path, name="sizes")
    user = tmp_path / "user.c"
    user.write_text(
        '#include "sizes.h"\n#include <stdio.h>\n'
        "int main(void) {\n"
        "    static const size_t shape[SIZES_IN0_NDIM] = SIZES_IN0_SHAPE;\n"
        "    int k, j;\n"
        '    printf("%d %d %d %d|", SIZES_N_IN, sizes_n_in(), SIZES_N_OUT, sizes_n_out());\n'
        "    for (k = 0; k < 2; k++) for (j = 0; j < sizes_out_ndim(k); j++)\n"
        '        printf("%d ", (int)sizes_out_shape(k)[j]);\n'
        '    printf("|%d %d %s %s|", (int)shape[1], SIZES_OUT1_SIZE, sizes_in_name(1), sizes_error(0));\n'
        '    printf("%d %d", sizes_in_shape(2) == NULL, (int)sizes_in_size(-1));\n'
        "    return 0;\n}\n"
    )
    gcc = next(iter(compilers().values()), None)
    if gcc is None:
        pytest.skip("no C compiler is installed: macros were NOT compiled")
    run([*gcc, *STRICT, user, made.files["sizes.c"], "-o", tmp_path / "user"])
    assert run([tmp_path / "user"]) == "2 2 2 2|2 3 2 |3 6 n no error|1 0"


def test_the_readme_says_how_to_call_it(tmp_path):
    x, w = np.ones((64, 30)), np.ones((30, 40))
    made = fg.export(
        lambda w, x: (w + fg.tanh(x @ w).sum(), x.sum(0)),
        w,
        x,
        donate_argnums=0,
        name="use",
        path=tmp_path,
    )
    text = made.files["README.md"].read_text()
    code = text[text.index("```c\n") + 5 :]
    user = tmp_path / "user.c"
    user.write_text(code[: code.index("```")] + "int main(void) { return step(); }\n")
    if not compilers():
        pytest.skip("no C compiler is installed: the README's example was NOT compiled")
    command = next(iter(compilers().values()))
    link = [f"-l{x}" for x in made.libraries]
    run([*command, *STRICT, user, made.files["use.c"], "-o", tmp_path / "user", *link])
    run([tmp_path / "user"])
    for key, size in made.memory.items():
        assert key == "ram" or f"| {size} |" in text


def test_foreign_files_stay(tmp_path):
    mine = tmp_path / "README.md"
    mine.write_text("my project")
    with pytest.raises(ArgumentError, match=r"README\.md is there and was not made by fg\.export"):
        fg.export(rosenbrock, np.zeros(3), path=tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["README.md"]
    assert mine.read_text() == "my project"


def test_two_exports_share_a_folder(tmp_path):
    for name in ("one", "two", "one"):
        fg.export(rosenbrock, np.zeros(3), name=name, path=tmp_path)
    text = (tmp_path / "CMakeLists.txt").read_text()
    assert text.count("add_library(one ") == text.count("add_library(two ") == 1
    assert (tmp_path / "README.md").read_text().count("## Memory") == 2
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed: CMakeLists.txt was NOT run")
    run(["cmake", "-S", tmp_path, "-B", tmp_path / "b"])
    run(["cmake", "--build", tmp_path / "b"])
    assert "100% tests passed" in run(["ctest"], cwd=tmp_path / "b")


def test_hostile_names_are_text(tmp_path):
    values = {name: np.full(2, float(k)) for k, name in enumerate(HOSTILE)}

    def f(tree):
        return {name: 2 * x for name, x in tree.items()}

    f.__name__ = HOSTILE[0]
    made = fg.export(f, values, path=tmp_path / "x", name=HOSTILE[1])
    assert set(os.listdir(tmp_path)) == {"x"}
    assert "ok" in selftest(made)
    for path in made.files.values():
        text = path.read_text("ascii")
        assert "#error" not in [t.strip()[:6] for t in text.splitlines()]
        assert "\nraise SystemExit" not in text
    result = library(made)(values)
    assert set(result) == set(values)
    assert all(np.array_equal(result[k], 2 * values[k]) for k in values)


def test_names_that_files_use_themselves(tmp_path):
    """A function may be called like anything that our own files define."""
    for k, name in enumerate(
        ["copy", "prepare", "skip", "status", "i", "load", "Function", "x0", "GUARD"]
    ):
        made = fg.export(lambda x: x + 1, np.ones(2), name=name, path=tmp_path / str(k))
        assert "ok" in selftest(made)
    assert np.array_equal(library(made)(np.ones(2)), [2.0, 2.0])


# -- numbers --------------------------------------------------------------------------------------


def test_training_step_updates_in_place(tmp_path, rng):
    params, velocity = network(rng)
    x, target = rng.standard_normal((4, 5)).astype(np.float32), np.ones(4, np.float32)
    made = fg.export(
        training_step, params, velocity, x, target, donate_argnums=(0, 1), path=tmp_path
    )
    assert "ok" in selftest(made)
    assert made.memory["state"] == 2 * sum(p.nbytes for p in params.values())
    step = library(made)
    expected = fg.compile(training_step, params, velocity, x, target)
    for _ in range(3):
        want = expected(params, velocity, x, target)
        new, moved, loss = step(params, velocity, x, target)
        assert all(new[k] is params[k] and moved[k] is velocity[k] for k in params)
        assert loss == pytest.approx(float(want[2]), rel=1e-5)
        for k in params:
            np.testing.assert_allclose(params[k], want[0][k], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("command", compilers().values(), ids=compilers().keys())
def test_reproducible_is_the_same_to_the_bit(tmp_path, command, rng):
    """Long sums, products of matrices and functions: C agrees with Numba's machine code."""
    x = rng.standard_normal((9, 301)).astype(np.float32)
    params, velocity = network(rng)

    def f(params, velocity, x):
        step = training_step(params, velocity, x[:, :5], x[:, 5])
        return step, fg.log_softmax(x @ x.T, 1), (x * x).sum(), fg.exp(x).mean(0).var()

    here = fg.compile(f, params, velocity, x, reproducible=True)
    made = fg.export(here, params, velocity, x, name="bits", path=tmp_path)
    assert made.layout.reproducible
    assert "ok" in selftest(made, command)
    made.build(" ".join([*command, "-O2"]))
    want = fg.func.tree.flatten(here(params, velocity, x))[0]
    got = fg.func.tree.flatten(made.load()(params, velocity, x))[0]
    assert all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(got, want, strict=True)
    )


def test_scan_while_and_numbers(tmp_path):
    def f(x, n: int):
        def body(c, row):
            return c * 0.5 + row, c.sum()

        carry, rows = fg.scan(body, x[0], x)
        steps, _ = fg.while_loop(
            lambda c: c[1] > 1e-3,
            lambda c: (c[0] + n, c[1] * 0.5),
            (fg.tensor(0), carry.sum() ** 2),
        )
        return carry, rows, steps

    x = np.linspace(-1, 1, 12).reshape(4, 3)
    made = fg.export(f, x, 2, path=tmp_path, name="loops")
    assert "ok" in selftest(made)
    carry, rows, steps = library(made)(x, 2)
    want = fg.compile(f, x, 2)(x, 2)
    np.testing.assert_allclose(carry, want[0], rtol=1e-14)
    np.testing.assert_allclose(rows, want[1], rtol=1e-14)
    assert type(steps) is int and steps == want[2]


def test_a_run_time_error_is_a_status(tmp_path):
    def f(a):
        return fg.linalg.cholesky(a)

    made = fg.export(f, np.eye(3), path=tmp_path, name="chol")
    assert "ok" in selftest(made)
    assert "CHOL_ERROR_1_LINALG = 1" in made.files["chol.h"].read_text()
    g = library(made)
    np.testing.assert_allclose(g(4 * np.eye(3)), 2 * np.eye(3))
    with pytest.raises(RuntimeError, match="positive") as caught:
        g(-np.eye(3))
    assert caught.value.status == 1
    with pytest.raises(LinAlgError):
        fg.compile(f, np.eye(3))(-np.eye(3))
    np.testing.assert_allclose(g(np.eye(3)), np.eye(3))  # the next call is well


def test_an_example_that_fails_is_a_stored_failure(tmp_path):
    made = fg.export(fg.linalg.cholesky, np.zeros((3, 3)), path=tmp_path, name="chol")
    assert "ok" in selftest(made)


def test_constants_keep_every_bit(tmp_path):
    held = fg.tensor(np.array([np.nan, -0.0, np.inf, -np.inf, 5e-324, 1 / 3]))
    small = fg.tensor(np.array([1e-45, -0.0, np.nan, 3.4e38], np.float32))
    made = fg.export(lambda x: (held * x, small + 0 * small), 1.0, path=tmp_path, name="held")
    assert "ok" in selftest(made)
    first, second = library(made)(1.0)
    assert first.tobytes() == held.numpy().tobytes()
    np.testing.assert_array_equal(second, small.numpy())


def test_bytes_and_bools(tmp_path):
    def f(image, mask, shift):
        return fg.where(mask, image.to(fg.float32) / 255, 0.0).sum(), image, shift < 0

    image = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    mask = image % 3 == 0
    shift = np.array([-1, 0, 1], np.int8)
    made = fg.export(f, image, mask, shift, path=tmp_path, name="bytes_in")
    assert "const uint8_t" in made.source and "int8_t" in made.source
    assert made.layout.ctype == "void"
    assert "ok" in selftest(made)
    total, same, negative = library(made)(image, mask, shift)
    assert total == pytest.approx(float(image[mask].sum()) / 255, rel=1e-6)
    assert np.array_equal(same, image) and same.dtype == np.uint8
    assert negative.tolist() == [True, False, False] and negative.dtype == bool


# -- what is exported -----------------------------------------------------------------------------


def test_compiled_and_jitted_functions(tmp_path):
    x = np.array([1.0, 2.0, 3.0])
    compiled = fg.compile(fg.grad(rosenbrock), x)
    for k, (f, example) in enumerate(
        [(compiled, (x,)), (compiled, ()), (fg.jit(rosenbrock), (x,))]
    ):
        made = fg.export(f, *example, path=tmp_path / str(k), name="g")
        assert "ok" in selftest(made)
    with pytest.raises(ArgumentError, match="another structure"):
        fg.export(compiled, x, x, path=tmp_path)
    with pytest.raises(ArgumentError, match="donate_argnums"):
        fg.export(compiled, x, path=tmp_path, donate_argnums=0)


def test_jit_with_static_and_named_arguments(tmp_path):
    @fg.jit(static_argnames=("power",))
    def f(x, power, *, scale):
        return (x**power).sum() * scale

    made = fg.export(f, np.array([1.0, 2.0]), power=3, scale=2.0, path=tmp_path, name="named")
    assert "ok" in selftest(made)
    assert len(made.layout.arguments) == 2


def test_modules_are_called_with_flat_results(tmp_path):
    model = fg.nn.Sequential(fg.nn.Linear(3, 4), fg.nn.Tanh(), fg.nn.Linear(4, 2))
    x = np.ones((1, 3), np.float32)
    made = fg.export(model, x, path=tmp_path, name="model")
    assert made.memory["constants"] == 4 * (3 * 4 + 4 + 4 * 2 + 2)
    with fg.no_grad():
        want = model(fg.tensor(x)).numpy()
    np.testing.assert_allclose(library(made)(x), want, rtol=1e-6)


def test_what_has_no_loops_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match=r"uses eigh .*NumPy runs.*pass its result"):
        fg.export(fg.linalg.eigh, np.eye(40), path=tmp_path)
    assert not list(tmp_path.iterdir())


def test_wrong_calls(tmp_path):
    with pytest.raises(ArgumentError, match="a function is required"):
        fg.export(3, path=tmp_path)
    with pytest.raises(ArgumentError, match="target must be"):
        fg.export(rosenbrock, np.zeros(3), target="rpi9", path=tmp_path)
    with pytest.raises(ArgumentError, match="blas must be"):
        fg.export(rosenbrock, np.zeros(3), blas="mkl", path=tmp_path)
    with pytest.raises(TraceError):
        fg.export(lambda x: x if x > 0 else -x, 1.0, path=tmp_path)
    with pytest.raises(ArgumentError, match="nothing was built"):
        fg.export(rosenbrock, np.zeros(3), path=tmp_path).load()


def test_the_module_is_its_function():
    import flatgrad.export as module

    assert fg.export is module and callable(fg.export)
    assert fg.export.export.__doc__ in (fg.export.__call__.__doc__,)


def test_budgets_are_met_or_refused(tmp_path, rng):
    """Six layers keep their values for the way back, unless there is no room."""
    weights = rng.standard_normal((6, 16, 16)).astype(np.float32) / 4
    x = rng.standard_normal((16, 16)).astype(np.float32)

    def loss(x):
        for w in weights:
            x = fg.tanh(x @ fg.tensor(w))
        return (x * x).mean()

    f = fg.grad(loss)
    free = fg.export(f, x, path=tmp_path / "free", name="net")
    limit = free.memory["ram"] - 2 * 1024
    tight = fg.export(f, x, path=tmp_path / "tight", name="net", max_ram=limit)
    assert tight.memory["ram"] <= limit < free.memory["ram"]
    assert "ok" in selftest(tight)
    for small in ("1K", 3 * 1024):
        with pytest.raises(
            BudgetError, match=r"arguments and state take 1024 of them, its results 1024"
        ):
            fg.export(f, x, path=tmp_path / "no", max_ram=small)
    with pytest.raises(BudgetError, match=r"take 6144 bytes, and max_flash is 5120"):
        fg.export(f, x, path=tmp_path / "no", max_flash="5K")
    with pytest.raises(
        ArgumentError, match=r'max_ram must be a number of bytes, or text like "64K"'
    ):
        fg.export(f, x, path=tmp_path / "no", max_ram="much")
    assert not (tmp_path / "no").exists()


# -- the loader -----------------------------------------------------------------------------------


def test_loader_in_a_fresh_process(tmp_path):
    """Nothing of ours is imported, and the module finds its library beside it."""
    made = fg.export(fg.value_and_grad(rosenbrock), np.zeros(3), name="rb", path=tmp_path)
    library(made)
    program = (
        "import sys, numpy as np\nfrom rb import rb\n"
        "value, gradient = rb(np.array([0.0, 0.0, 1.0]))\n"
        "print(value, gradient.tolist(), [m for m in ('flatgrad', 'numba', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        capture_output=True,
        text=True,
    )
    assert out.stdout == "102.0 [-2.0, -2.0, 200.0] []\n", out.stderr


def test_loader_is_old_python(tmp_path):
    import ast

    made = fg.export(rosenbrock, np.zeros(3), name="rb", path=tmp_path)
    ast.parse(made.files["rb.py"].read_text(), feature_version=(3, 9))


def test_loader_checks_its_arguments(tmp_path):
    def f(tree, n):
        return {"y": tree["a"] * n, "z": (tree["b"][0].sum(),)}

    a, b = np.ones((2, 3)), np.ones(2)
    made = fg.export(f, {"a": a, "b": [b]}, 2.0, path=tmp_path, name="checked")
    g = library(made)
    result = g({"a": a, "b": [b]}, 3)
    assert np.array_equal(result["y"], 3 * a) and result["z"] == (2.0,)
    for wrong, error, text in [
        (({"a": a.T, "b": [b]}, 1.0), ValueError, r"tree\['a'\] must have the shape \(2, 3\)"),
        (({"a": a.astype("f4"), "b": [b]}, 1.0), TypeError, "dtype float64.*astype"),
        (({"a": [[1, 2, 3]] * 2, "b": [b]}, 1.0), TypeError, "must be a NumPy array"),
        (({"a": a}, 1.0), TypeError, "dict with the keys"),
        (({"a": a, "b": b}, 1.0), TypeError, "must be a list of 1"),
        (({"a": a, "b": [b]}, "1"), TypeError, "must be a number"),
        (({"a": a, "b": [b]},), TypeError, "2 arguments are required, got 1"),
    ]:
        with pytest.raises(error, match=text):
            g(*wrong)
    turned = np.asfortranarray(a * np.arange(3))
    assert np.array_equal(g({"a": turned, "b": [b[::-1]]}, 1.0)["y"], turned)
    out = np.empty((2, 3))
    assert g({"a": a, "b": [b]}, 5.0, out=[out, None])["y"] is out and out[0, 0] == 5
    with pytest.raises(ValueError, match="overlaps an argument"):
        g({"a": a, "b": [b]}, 5.0, out=[a, None])


def test_loader_refuses_what_it_would_overwrite(tmp_path):
    made = fg.export(
        lambda s, x: s + x, np.ones(3), np.ones(3), donate_argnums=0, path=tmp_path, name="add"
    )
    g = library(made)
    s, x = np.ones(3), np.ones(3)
    assert g(s, x) is s and s[0] == 2
    with pytest.raises(ValueError, match="updated in place and overlaps"):
        g(s, s)
    frozen = np.ones(3)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="updated in place: a contiguous array"):
        g(frozen, x)
    assert g(s, frozen)[0] == 3


def test_a_stale_library_is_refused(tmp_path):
    made = fg.export(lambda x: x + 1, np.ones(3), path=tmp_path, name="stale")
    library(made)
    other = fg.export(lambda x: x + 2, np.ones(3), path=tmp_path, name="stale")
    other.library = made.library
    with pytest.raises(OSError, match="another version"):
        other.load()
