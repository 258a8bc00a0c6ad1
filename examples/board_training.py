"""Train a small convolutional network on a microcontroller, within 256 KB of RAM, and get the desk's bits.

A network learns scikit-learn's digits on the desk. Its board sees them through another camera (dim, inverted,
noisy), so there it goes on learning: a *sparse update*, in which ``--learn`` says which layers do. The
weights of the others are constants in flash, and need neither gradients nor memory for activations.

The training step is exported as C for a Cortex-M4F with reproducible=True. If an ARM compiler and QEMU are
here (``apt-get install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm``) it runs on an emulated
board, and every loss and weight must have the bits that the desk got.

    python examples/board_training.py --learn conv2 head

needs ``pip install "flatgrad[examples]"`` (scikit-learn and tqdm).
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from tqdm import trange

import flatgrad as fg
import flatgrad.nn.functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tools.boards.machines import BOARDS, C, missing

LAYERS = {"conv1": (8, 1, 3, 3), "conv2": (16, 8, 3, 3), "head": (10, 64)}


def arguments(args=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--learn", nargs="+", choices=LAYERS, default=["conv2", "head"], help="layers that learn"
    )
    parser.add_argument("--steps", type=int, default=155, help="on the board (155)")
    parser.add_argument("--batch", type=int, default=16, help="images of one step (16)")
    parser.add_argument("--desk-steps", type=int, default=400, help="of the training before (400)")
    parser.add_argument("--max-ram", default="256K", help="what the board has (256K)")
    parser.add_argument("--keep", metavar="FOLDER", help="where the C goes (a temporary folder)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(args)


# -- the network ----------------------------------------------------------------------------------


def fresh(seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    params = {}
    for name, shape in LAYERS.items():
        scale = np.sqrt(2 / np.prod(shape[1:]))
        params[name] = {
            "weight": (scale * rng.standard_normal(shape)).astype(np.float32),
            "bias": np.zeros(shape[0], np.float32),
        }
    return params


def scores(params: dict, images):
    """(n, 8, 8) bytes from 0 to 255 -> (n, 10)."""
    x = images.to(fg.float32).reshape(-1, 1, 8, 8) * (1 / 255)
    for name in ("conv1", "conv2"):
        x = F.conv2d(x, params[name]["weight"], params[name]["bias"], padding=1)
        x = F.max_pool2d(F.relu(x), 2)
    return x.reshape(-1, 64) @ params["head"]["weight"].T + params["head"]["bias"]


def step_of(frozen: dict, rate: float = 0.05, momentum: float = 0.9):
    """A step of SGD with momentum for what is not frozen: (learned, velocity, images, labels) -> all new."""

    def loss(learned, images, labels):
        return F.cross_entropy(scores({**frozen, **learned}, images), labels.to(fg.int64))

    def step(learned, velocity, images, labels):
        value, slopes = fg.value_and_grad(loss)(learned, images, labels)
        new, speed = {}, {}
        for name in learned:
            speed[name] = {k: momentum * velocity[name][k] + slopes[name][k] for k in learned[name]}
            new[name] = {k: learned[name][k] - rate * speed[name][k] for k in learned[name]}
        return new, speed, value

    return step


def zeros_like(params: dict) -> dict:
    return {name: {k: np.zeros_like(a) for k, a in layer.items()} for name, layer in params.items()}


def train(step, params: dict, images, labels, steps: int, batch: int, bar) -> tuple:
    """Run `step`, which writes over `params`, batch after batch: (velocity, losses)."""
    velocity, losses = zeros_like(params), []
    for k in bar(steps):
        rows = slice(batch * (k % (len(labels) // batch)), None)
        *_, loss = step(params, velocity, images[rows][:batch], labels[rows][:batch])
        losses.append(np.float32(loss))
    return velocity, losses


def correct(params: dict, images, labels) -> float:
    return float((scores(params, fg.tensor(images)).argmax(1).numpy() == labels).mean())


# -- the data -------------------------------------------------------------------------------------


def load():
    """((images, labels) of the desk, of the board, and the board's for the test); bytes."""
    digits = load_digits()
    order = np.random.default_rng(1).permutation(len(digits.target))
    images = digits.images[order] * (255 / 16)
    labels = digits.target[order].astype(np.uint8)
    noise = np.random.default_rng(2).normal(0, 8, images.shape)
    camera = 200 - 0.6 * images + noise
    desk, board, test = slice(0, 900), slice(900, 1396), slice(1396, None)
    images, camera = (np.clip(x, 0, 255).astype(np.uint8) for x in (images, camera))
    return (
        (images[desk], labels[desk]),
        (camera[board], labels[board]),
        (camera[test], labels[test]),
    )


# -- the board ------------------------------------------------------------------------------------

MAIN = """\
/* The board's program: {steps} steps, then what was learned and what memory it took. */
#include <stdio.h>
#include "board_step.h"

{arrays}
static unsigned char work[{work}] __attribute__((aligned({align})));
static float loss;
static volatile unsigned char *lowest; /* of the stack, that was painted */

static void paint(void) {{
    volatile unsigned char here, *p = &here - 64;
    lowest = &here - 65536;
    while (p > lowest) *--p = 0xA5;
}}

int main(void) {{
    volatile unsigned char here;
    uint32_t bits;
    int k;
    paint();
    for (k = 0; k < {steps}; k++) {{
        const void *in[] = {{{inputs}}};
        void *out[] = {{{outputs}}};
        const int status = board_step((const void *const *)in, (void *const *)out, work);
        if (status) return status;
        __builtin_memcpy(&bits, &loss, 4);
        printf("loss %08lx\\n", (unsigned long)bits);
    }}
    while (*lowest == 0xA5) lowest++;
    printf("stack %ld\\n", (long)(&here - lowest));
{show}
    return 0;
}}
"""


def words(array: np.ndarray) -> str:
    return ", ".join(
        float(x).hex() + "f" if array.dtype.kind == "f" else str(x) for x in array.flat
    )


def main_c(made, learned: dict, data, steps: int, batch: int) -> str:
    """The C program around the exported step: state in RAM, images in flash."""
    images, labels = data
    state = [a for tree in (learned, zeros_like(learned)) for a in leaves(tree)]
    arrays = [f"static float state{k}[{a.size}] = {{{words(a)}}};" for k, a in enumerate(state)]
    arrays.append(f"static const unsigned char images[] = {{{words(images)}}};")
    arrays.append(f"static const unsigned char labels[] = {{{words(labels)}}};")
    inputs = [f"state{k}" for k in range(len(state))]
    count = len(labels) // batch
    inputs += [
        f"images + {images[0].size * batch} * (k % {count})",
        f"labels + {batch} * (k % {count})",
    ]
    shown = [
        f"    for (k = 0; k < {a.size}; k++) {{\n"
        f"        __builtin_memcpy(&bits, &state{j}[k], 4);\n"
        f'        printf("%08lx", (unsigned long)bits);\n    }}\n    printf("\\n");'
        for j, a in enumerate(state)
    ]
    return MAIN.format(
        steps=steps,
        arrays="\n".join(arrays),
        work=max(made.memory["work"], 1),
        align=made.layout.align,
        inputs=", ".join(inputs),
        outputs=", ".join(["0"] * len(state) + ["&loss"]),
        show="\n".join(shown),
    )


def leaves(tree: dict) -> list[np.ndarray]:
    return [tree[name][k] for name in sorted(tree) for k in sorted(tree[name])]


def run_on_board(made, learned, data, steps: int, batch: int) -> dict | None:
    """What the emulated board says, or None without the tools."""
    board = BOARDS["m4f"]
    lacking = missing(board)
    if lacking:
        print(f"board: NOT RUN; needs {'; '.join(lacking)}")
        return None
    folder = made.path
    (folder / "main.c").write_text(main_c(made, learned, data, steps, batch))
    sources = [folder / "main.c", made.files["board_step.c"], C / "start.c"]
    program = folder / "program.elf"
    command = [*board.compiler, *board.flags, "-std=gnu99", "-O2", "-DFLATGRAD_BARE"]
    command += ["-ffunction-sections", *map(str, sources), *board.link, "-o", str(program)]
    subprocess.run(command, check=True)
    done = subprocess.run(
        [*board.runner, str(program)], capture_output=True, text=True, check=True, timeout=600
    )
    lines = done.stdout.split("\n")
    said = {"losses": [x[5:] for x in lines if x.startswith("loss ")], "stack": 0}
    said["stack"] = next(int(x[6:]) for x in lines if x.startswith("stack "))
    said["state"] = lines[len(said["losses"]) + 1 : -1]
    return said


def bits_of(array) -> str:
    return "".join(f"{x:08x}" for x in np.asarray(array, np.float32).reshape(-1).view(np.uint32))


# -- the whole ------------------------------------------------------------------------------------


def main(args=None) -> int:
    given = arguments(args)
    (images, labels), data, test = load()

    def bar(steps):
        return trange(steps, disable=given.quiet, leave=False)

    params = fresh()
    some = (images[:32], labels[:32])
    whole = fg.compile(
        step_of({}), params, zeros_like(params), *some, donate_argnums=(0, 1), reproducible=True
    )
    _, losses = train(whole, params, images, labels, given.desk_steps, 32, bar)
    print(f"desk: {given.desk_steps} steps, loss {losses[0]:.3f} to {np.mean(losses[-20:]):.3f}")
    print(f"the board's camera: {correct(params, *test):.1%} right before learning")

    frozen = {name: layer for name, layer in params.items() if name not in given.learn}
    learned = {name: params[name] for name in given.learn}
    step = step_of(frozen)
    first = tuple(a[: given.batch] for a in data)
    example = (learned, zeros_like(learned), *first)
    folder = Path(given.keep or tempfile.mkdtemp(prefix="flatgrad-"))
    how = {"target": "cortex-m4f", "donate_argnums": (0, 1), "reproducible": True}
    made = fg.export(step, *example, name="board_step", path=folder, max_ram=given.max_ram, **how)
    every = fg.export(
        step_of({}),
        params,
        zeros_like(params),
        *first,
        name="every_layer",
        path=folder / "every_layer",
        **how,
    )
    print(f"learning {', '.join(given.learn)}: {figures(made)}")
    print(f"learning every layer: {figures(every)}")

    start = {name: {k: a.copy() for k, a in layer.items()} for name, layer in learned.items()}
    desk = fg.compile(step, *example, donate_argnums=(0, 1), reproducible=True)
    velocity, losses = train(desk, learned, *data, given.steps, given.batch, bar)
    print(f"loss over {given.steps} steps: {losses[0]:.3f} to {np.mean(losses[-5:]):.3f}")
    print(f"the board's camera: {correct({**frozen, **learned}, *test):.1%} right afterwards")

    said = run_on_board(made, start, data, given.steps, given.batch)
    if given.keep is None:
        shutil.rmtree(folder)
    if said is None:
        return 0
    state = [bits_of(a) for a in (*leaves(learned), *leaves(velocity))]
    same = said["losses"] == [bits_of(x) for x in losses] and said["state"] == state
    ram = made.memory["ram"] + said["stack"]
    print(f"board: RAM {ram:,} bytes, {said['stack']:,} of them stack")
    digest = hashlib.sha256("".join(said["state"]).encode()).hexdigest()[:16]
    print(
        f"board: weights {digest}; every loss and weight {'has' if same else 'DOES NOT have'} the desk's bits"
    )
    return 0 if same else 1


def figures(made) -> str:
    memory = made.memory
    return (
        f"RAM {memory['ram']:,} bytes ({memory['state']:,} state, {memory['work']:,} work), "
        f"constants {memory['constants']:,}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
