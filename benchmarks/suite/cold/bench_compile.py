"""A first evaluation with nothing on disk. Each sample is a fresh process with an empty cache."""

from ..fresh import compiled


class Compile:
    params = ((1, 10, 50),)
    param_names = ("operations",)
    timeout = 120

    def track_first_gradient(self, operations):
        return compiled(operations)

    track_first_gradient.unit = "s"
