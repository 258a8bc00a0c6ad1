"""A first evaluation in a second process: the program is loaded from disk."""

from ..fresh import loaded


class Load:
    params = ((10, 50),)
    param_names = ("operations",)
    timeout = 120

    def setup_cache(self):
        return {operations: loaded(operations) for operations in self.params[0]}

    setup_cache.timeout = 120

    def track_first_gradient(self, found, operations):
        return found[operations][0]

    def track_whole_process(self, found, operations):
        """From starting Python to its end, NumPy, Numba and flatgrad imported."""
        return found[operations][1]

    track_first_gradient.unit = track_whole_process.unit = "s"
