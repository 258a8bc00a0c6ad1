"""Train a multilayer perceptron on scikit-learn's bundled digits: 1,797 real images of 8 x 8 pixels.

Plain PyTorch style: nothing is said about compiling. The first steps are interpreted, and once the step
has cost more time than compiling it would, forward pass, backward pass and update become one
program of flat machine-code loops. At the end it is said which tier ran, and what it gained.

    python examples/digits.py --epochs 30

needs ``pip install "flatgrad[examples]"`` (scikit-learn and tqdm).
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from tqdm import trange

import flatgrad as fg
from flatgrad import nn


def arguments(args=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30, help="passes over the data (30)")
    parser.add_argument("--batch", type=int, default=64, help="images of one step (64)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (0)")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--compile", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--steps", type=int, default=200, help="steps timed at the end (200)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(args)


def load(dtype):
    """Images scaled to [0, 1] and labels: every fifth for the test, the others to train on.

    Each training image is there five times: as it is, and moved by one pixel to each side.
    """
    digits = load_digits()
    images, labels = digits.images / 16.0, digits.target.astype(np.int64)
    test = np.arange(len(labels)) % 5 == 0
    padded = np.pad(images[~test], ((0, 0), (1, 1), (1, 1)))
    moved = [padded[:, r : r + 8, c : c + 8] for r, c in ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))]
    train_images, train_labels = np.concatenate(moved), np.tile(labels[~test], len(moved))
    return [
        (fg.tensor(x.reshape(-1, 64), dtype=dtype), fg.tensor(y))
        for x, y in ((train_images, train_labels), (images[test], labels[test]))
    ]


def make_model(dtype):
    return nn.Sequential(
        nn.Linear(64, 128, dtype=dtype),
        nn.ReLU(),
        nn.Linear(128, 64, dtype=dtype),
        nn.ReLU(),
        nn.Linear(64, 10, dtype=dtype),
    )


def train_step(model, loss_fn, opt, images, labels):
    loss = loss_fn(model(images), labels)
    opt.zero_grad()
    loss.backward()
    opt.step()
    return loss


def accuracy(model, images, labels):
    with fg.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def train(options, model, loss_fn, opt, train_set, test_set):
    images, labels = train_set
    schedule = fg.optim.lr_scheduler.CosineAnnealingLR(opt, options.epochs)
    bar = trange(options.epochs, unit="epoch", disable=options.quiet)
    for _ in bar:
        order = fg.randperm(len(labels))
        for k in range(0, len(labels) - options.batch + 1, options.batch):
            rows = order[k : k + options.batch]
            loss = train_step(model, loss_fn, opt, images[rows], labels[rows])
        schedule.step()
        bar.set_postfix(loss=f"{loss.item():.4f}", test=f"{accuracy(model, *test_set):.2%}")
    return loss


def timed_steps(options, mode, model, loss_fn, opt, images, labels):
    """The median seconds of a training step under ``set_compile(mode)``, and the last loss."""
    with fg.set_compile(mode):
        for _ in range(3):
            train_step(model, loss_fn, opt, images, labels)
        times = []
        for _ in range(options.steps):
            start = time.perf_counter()
            loss = train_step(model, loss_fn, opt, images, labels)
            times.append(time.perf_counter() - start)
    return float(np.median(times)), loss


def report(options, loss, model, loss_fn, opt, train_set):
    """Which tier ran, how long compiling took, and a step's time interpreted and compiled."""
    print("how the last training step ran:")
    print("  " + repr(fg.explain(loss)).replace("\n", "\n  "))
    batch = [t[: options.batch].clone() for t in train_set]
    slow, _ = timed_steps(options, "never", model, loss_fn, opt, *batch)
    print(f"a step interpreted: {slow * 1e6:8.1f} us")
    if options.compile != "never":
        fast, loss = timed_steps(options, "always", model, loss_fn, opt, *batch)
        how = fg.explain(loss)
        source = "loading it from disk" if how.from_disk else "compiling it"
        print(f"a step compiled:    {fast * 1e6:8.1f} us ({slow / fast:.1f} times faster)")
        print(f"{source} took {how.compile_seconds:.2f} s")


def main(args=None):
    options = arguments(args)
    fg.set_compile(options.compile)
    fg.manual_seed(options.seed)
    dtype = getattr(fg, options.dtype)
    train_set, test_set = load(dtype)
    model, loss_fn = make_model(dtype), nn.CrossEntropyLoss()
    opt = fg.optim.AdamW(model.parameters(), lr=5e-3)
    start = time.perf_counter()
    loss = train(options, model, loss_fn, opt, train_set, test_set)
    seconds = time.perf_counter() - start
    reached = accuracy(model, *test_set)
    print(f"test accuracy {reached:.2%} after {options.epochs} epochs in {seconds:.1f} s")
    report(options, loss, model, loss_fn, opt, train_set)
    return reached


if __name__ == "__main__":
    main()
