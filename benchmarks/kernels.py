"""Contractions and windows of small networks beside PyTorch: ``python benchmarks/kernels.py``.

Each row is a layer's forward pass and both of its gradients (input and weights), in float32, one thread.
PyTorch runs ``forward`` and ``torch.autograd.grad`` eagerly; ours is one compiled program into given memory.
The answers are compared before anything is timed; the two are timed in turns, and the fastest of each counts.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

import tables

TARGET, MEAN_TARGET = 1.0, 1 / 1.3

# name, kind, batch, channels in, out, image, kernel, stride, padding, groups
LAYERS = [
    ("linear 784-128, batch 32", "linear", 32, 784, 128),
    ("linear 128-10, batch 32", "linear", 32, 128, 10),
    ("linear 64-256, batch 1", "linear", 1, 64, 256),
    ("linear 128-128, batch 1", "linear", 1, 128, 128),
    ("bmm 32 x (64x32x64)", "bmm", 32, 64, 32),
    ("bmm 4 x (32x16x32)", "bmm", 4, 32, 16),
    ("conv 1-8 3x3, 28x28, batch 1", "conv", 1, 1, 8, 28, 3, 1, 1, 1),
    ("conv 1-6 5x5, 32x32, batch 32", "conv", 32, 1, 6, 32, 5, 1, 0, 1),
    ("conv 6-16 5x5, 14x14, batch 32", "conv", 32, 6, 16, 14, 5, 1, 0, 1),
    ("conv 3-16 3x3, 32x32, batch 1", "conv", 1, 3, 16, 32, 3, 1, 1, 1),
    ("conv 3-16 3x3 stride 2, 64x64, batch 1", "conv", 1, 3, 16, 64, 3, 2, 1, 1),
    ("conv 16-32 3x3, 32x32, batch 1", "conv", 1, 16, 32, 32, 3, 1, 1, 1),
    ("conv 16-32 3x3, 16x16, batch 32", "conv", 32, 16, 32, 16, 3, 1, 1, 1),
    ("conv 32-64 3x3 stride 2, 16x16, batch 32", "conv", 32, 32, 64, 16, 3, 2, 1, 1),
    ("conv 64-128 3x3, 8x8, batch 1", "conv", 1, 64, 128, 8, 3, 1, 1, 1),
    ("conv 128-128 3x3, 8x8, batch 32", "conv", 32, 128, 128, 8, 3, 1, 1, 1),
    ("conv 32-64 1x1, 32x32, batch 1", "conv", 1, 32, 64, 32, 1, 1, 0, 1),
    ("conv 64-64 1x1, 16x16, batch 32", "conv", 32, 64, 64, 16, 1, 1, 0, 1),
    ("depthwise 32 3x3, 32x32, batch 1", "conv", 1, 32, 32, 32, 3, 1, 1, 32),
    ("depthwise 64 3x3, 16x16, batch 32", "conv", 32, 64, 64, 16, 3, 1, 1, 64),
    ("conv1d 16-32 k5, 64, batch 32", "conv1d", 32, 16, 32, 64, 5, 1, 2, 1),
    ("transposed 16-8 4x4 stride 2, 16x16, batch 1", "transposed", 1, 16, 8, 16, 4, 2, 1, 1),
    ("max pool 2x2, 16 x 32x32, batch 32", "maxpool", 32, 16, 0, 32),
    ("mean pool 2x2, 16 x 32x32, batch 1", "meanpool", 1, 16, 0, 32),
]


def operands(layer, rng):
    """The input and the weights (or the second matrix) of a layer."""
    _, kind, n, *sizes = layer
    if kind == "linear":
        shapes = (n, sizes[0]), (sizes[1], sizes[0])
    elif kind == "bmm":
        shapes = (n, sizes[0], sizes[1]), (n, sizes[1], sizes[0])
    elif kind.endswith("pool"):
        shapes = ((n, sizes[0], sizes[2], sizes[2]),)
    else:
        c, o, image, kernel, _, _, groups = sizes
        spatial = 1 if kind == "conv1d" else 2
        weights = (c, o) if kind == "transposed" else (o, c // groups)
        shapes = (n, c, *[image] * spatial), (*weights, *[kernel] * spatial)
    return [rng.standard_normal(s).astype(np.float32) / 4 for s in shapes]


def forward(layer, functional, matmul):
    """The layer as a function of its operands, in flatgrad or PyTorch."""
    _, kind, _, *sizes = layer
    if kind == "linear":
        return functional.linear
    if kind == "bmm":
        return matmul
    if kind == "maxpool":
        return lambda x: functional.max_pool2d(x, 2)
    if kind == "meanpool":
        return lambda x: functional.avg_pool2d(x, 2)
    *_, stride, padding, groups = sizes
    name = {"conv": "conv2d", "conv1d": "conv1d", "transposed": "conv_transpose2d"}[kind]
    call = getattr(functional, name)
    return lambda x, w: call(x, w, stride=stride, padding=padding, groups=groups)


def ours(layer, arrays, cotangent):
    import flatgrad as fg

    f = forward(layer, fg.nn.functional, fg.matmul)

    def step(g, *tensors):
        y, back = fg.func.vjp(f, *tensors)
        return y, *back(g)

    compiled = fg.compile(step, cotangent, *arrays)
    out = tuple(np.empty_like(x) for x in (cotangent, *arrays))

    def run():
        compiled(cotangent, *arrays, out=out)
        return out

    return run


def pytorch(layer, arrays, cotangent):
    import torch

    f = forward(layer, torch.nn.functional, torch.matmul)
    tensors = [torch.from_numpy(a).requires_grad_() for a in arrays]
    g = torch.from_numpy(cotangent)

    def run():
        y = f(*tensors)
        return (y.detach(), *torch.autograd.grad(y, tensors, g))

    return run


def shape_of(layer, arrays) -> tuple:
    import torch

    with torch.no_grad():
        f = forward(layer, torch.nn.functional, torch.matmul)
        return tuple(f(*[torch.from_numpy(a) for a in arrays]).shape)


def seconds(runs, budget: float) -> list[float]:
    """The fastest of each, taken in turns."""
    best = [float("inf")] * len(runs)
    end = time.perf_counter() + budget
    while time.perf_counter() < end:
        for k, run in enumerate(runs):
            start = time.perf_counter()
            run()
            best[k] = min(best[k], time.perf_counter() - start)
    return best


def measure(layer, budget: float) -> dict:
    rng = np.random.default_rng(0)
    arrays = operands(layer, rng)
    cotangent = rng.standard_normal(shape_of(layer, arrays)).astype(np.float32)
    runs = [ours(layer, arrays, cotangent), pytorch(layer, arrays, cotangent)]
    mine = [x.copy() for x in runs[0]()]
    theirs = [x.numpy().copy() for x in runs[1]()]
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * max(1.0, abs(b).max()))
    mine, theirs = seconds(runs, budget)
    return tables.row(layer[0], "PyTorch", 1e6 * mine, 1e6 * theirs, TARGET)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one short sample of each")
    parser.add_argument("--only", default="", help="layers whose name holds this")
    tables.add_option(parser)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    rows = [
        measure(layer, 0.05 if args.quick else 1.0) for layer in LAYERS if args.only in layer[0]
    ]
    print("| layer, forward and both gradients | flatgrad us | PyTorch us | ours / theirs |")
    print("|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['name']} | {r['ours']:.1f} | {r['peer']:.1f} | {r['ratio']:.2f} |",
            flush=True,
        )
    mean = tables.geometric_mean(rows)
    print(f"\nGeometric mean {mean:.2f}, largest {max(r['ratio'] for r in rows):.2f}.")
    whole = tables.row("geometric mean of all layers", "PyTorch", mean, 1.0, MEAN_TARGET, "ratio")
    tables.write(args.json, [*rows, whole])


if __name__ == "__main__":
    main()
