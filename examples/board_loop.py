"""A training service for a board: switched off at any moment, it goes on where it was.

It learns the drift of a sensor from a stream of readings (made up here: put your own into
`readings`). The model, the optimiser and the generator are saved every so many seconds, and once more
when the service is stopped. What is learned is the same however often it was interrupted; to the last
bit if steps are always compiled or never, since the two may round differently.

    python examples/board_loop.py --state . --every 600 --steps 20000

`examples/systemd/flatgrad-train.service` runs it at boot, see docs/deploy.md.
"""

import argparse
import os
import signal
import socket
import time
from pathlib import Path

import flatgrad as fg
from flatgrad import nn


def arguments(args=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    state = os.environ.get("STATE_DIRECTORY", ".")  # systemd's StateDirectory=
    parser.add_argument(
        "--state", type=Path, default=Path(state), help="directory of the checkpoints"
    )
    parser.add_argument(
        "--every", type=float, default=600, help="seconds between checkpoints (600)"
    )
    parser.add_argument("--steps", type=int, default=0, help="steps in all; 0 goes on for ever")
    parser.add_argument("--compile", choices=("auto", "always", "never"), default="auto")
    parser.add_argument("--report", type=int, default=1000, help="steps between two lines (1000)")
    return parser.parse_args(args)


def readings(rng, count=32):
    """Temperature, humidity, age and voltage, scaled; and how much the sensor was wrong."""
    x = fg.rand(count, 4, generator=rng)
    wrong = 0.3 * x[:, :1] * x[:, 1:2] - 0.2 * x[:, 2:3] ** 2 + 0.1 * fg.sin(6 * x[:, 3:])
    return x, wrong + 0.01 * fg.randn(count, 1, generator=rng)


def notify(words):
    """Tell systemd (READY=1, WATCHDOG=1, ...), if it started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(words.encode(), "\0" + address[1:] if address[0] == "@" else address)


def train(options, stopped):
    """Train until ``stopped()``, or for as many steps as there are to be. Returns the last loss."""
    rng = fg.Generator().manual_seed(7)
    fg.manual_seed(0)  # the first weights
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    opt = fg.optim.AdamW(model.parameters(), lr=2e-3)
    path = options.state / "drift.safetensors"
    checkpoint = fg.io.Checkpointer(
        path, every_seconds=options.every, model=model, opt=opt, rng=rng
    )
    step = checkpoint.restore(step=0)["step"]
    print(f"starts at step {step}", flush=True)
    notify("READY=1")
    loss, told = None, 0.0
    while not stopped() and (options.steps == 0 or step < options.steps):
        x, wrong = readings(rng)
        loss = ((model(x) - wrong) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        checkpoint.step(step=step)
        if step % options.report == 0:
            print(f"step {step}: loss {loss.item():.6f}", flush=True)
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            notify(f"WATCHDOG=1\nSTATUS=step {step}")
    notify("STOPPING=1")
    checkpoint.save(step=step)
    print(f"stopped at step {step}", flush=True)
    return loss


def main(args=None):
    options = arguments(args)
    fg.set_compile(options.compile)
    signals = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: signals.append(caught))
    return train(options, lambda: bool(signals))


if __name__ == "__main__":
    main()
