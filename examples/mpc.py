"""Model-predictive control: a cart swings its pendulum up and balances it, in a fraction of a millisecond.

Run it with ``python examples/mpc.py [--plot mpc.png]`` (the picture needs matplotlib).
The dynamics are ordinary flatgrad code; see ``cartpole.py`` for the controller.
"""

from __future__ import annotations

import argparse

from cartpole import Controller, acceleration, plot, report, swing_up


def main(arguments=None) -> dict:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of simulated time")
    parser.add_argument("--plot", metavar="PATH", help="write a picture of the swing")
    options = parser.parse_args(arguments)
    controller = Controller(acceleration)
    print(f"traced and compiled in        {controller.compile_seconds:.1f} s")
    run = swing_up(controller, controller.step, options.seconds)
    found = report(*run)
    if options.plot:
        plot(options.plot, *run[:2], "Swing-up by model-predictive control")
    return found


if __name__ == "__main__":
    main()
