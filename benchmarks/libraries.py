"""One face for each library that ``peers.py`` compares: the same four computations, natively.

``forward``, ``gradient``, ``hvp`` and ``training`` return a callable that runs one step to its end.
A formula gets a namespace ``m`` with the functions it needs, under the same names for all.
"""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np


class NotAvailableError(Exception):
    """The library has no such computation; the text is shown in the table."""


class Eager:
    """What PyTorch's API has in common, wherever it comes from."""

    def tensors(self, arrays, count):
        make = self.module.from_numpy
        return [
            make(a.copy()).requires_grad_() if k < count else make(a.copy())
            for k, a in enumerate(arrays)
        ]

    def numpy(self, results):
        return [np.asarray(r.detach().numpy()) for r in results]

    def wrap(self, function):
        return function

    def forward(self, formula, arrays, count):
        tensors = self.tensors(arrays, 0)
        function = self.wrap(lambda *args: formula(self.m, *args))
        return lambda: self.settle((function(*tensors),))

    def gradient(self, formula, arrays, count):
        tensors = self.tensors(arrays, count)
        function = self.wrap(lambda *args: formula(self.m, *args))
        grad = self.module.autograd.grad

        def step():
            value = function(*tensors)
            return self.settle((value, *grad(value, tensors[:count])))

        return step

    def hvp(self, formula, arrays, directions):
        count = len(directions)
        tensors = self.tensors(arrays, count)
        along = self.tensors(directions, 0)
        grad = self.module.autograd.grad

        def step():
            first = grad(formula(self.m, *tensors), tensors[:count], create_graph=True)
            return self.settle(grad(first, tensors[:count], along))

        return step

    def training(self, weights, x, y):
        """``loss.backward(); opt.step()`` with Adam; the step returns the loss."""
        module = self.module
        nn, optim = module.nn, module.optim
        sizes = [w.shape for w in weights[::2]]
        layers = []
        for k, (rows, columns) in enumerate(sizes):
            layers += [nn.Linear(columns, rows)] + ([nn.ReLU()] if k + 1 < len(sizes) else [])
        model = nn.Sequential(*layers)
        with module.no_grad():
            for parameter, w in zip(model.parameters(), weights, strict=True):
                parameter.copy_(module.from_numpy(w.copy()))
        criterion, opt = nn.CrossEntropyLoss(), optim.Adam(model.parameters(), lr=1e-3)
        inputs, labels = module.from_numpy(x.copy()), module.from_numpy(y.copy())
        model = self.wrap(model)

        def step():
            opt.zero_grad()
            loss = criterion(model(inputs), labels)
            loss.backward()
            opt.step()
            return loss.item()

        return step


class Flatgrad(Eager):
    def __init__(self):
        import flatgrad as fg

        # The steady state: every program compiled, as it is after a while under "auto".
        fg.set_compile("always")
        self.module, self.version = fg, fg.__version__
        self.m = SimpleNamespace(
            sum=fg.sum, exp=fg.exp, sin=fg.sin, cos=fg.cos, tanh=fg.tanh, log1p=fg.log1p,
            logsumexp=lambda x: fg.logsumexp(x, 0), softmax=_softmax(fg),
        )  # fmt: skip

    def settle(self, results):
        for r in results:
            r.detach().numpy()
        return results


def _softmax(fg):
    softmax = getattr(fg, "softmax", None) or fg.nn.functional.softmax
    return lambda x: softmax(x, -1)


class Torch(Eager):
    def __init__(self):
        import torch

        torch.set_num_threads(1)
        self.module, self.version = torch, torch.__version__
        self.m = SimpleNamespace(
            sum=torch.sum, exp=torch.exp, sin=torch.sin, cos=torch.cos, tanh=torch.tanh,
            log1p=torch.log1p, logsumexp=lambda x: torch.logsumexp(x, 0),
            softmax=lambda x: torch.softmax(x, -1),
        )  # fmt: skip

    def settle(self, results):
        return results


class TorchCompile(Torch):
    def wrap(self, function):
        return self.module.compile(function)

    def hvp(self, formula, arrays, directions):
        raise NotAvailableError("no double backward")


class Jax:
    def __init__(self):
        import jax

        jax.config.update("jax_enable_x64", True)
        from jax.scipy.special import logsumexp

        self.jax, self.version = jax, jax.__version__
        np_ = jax.numpy
        self.m = SimpleNamespace(
            sum=np_.sum, exp=np_.exp, sin=np_.sin, cos=np_.cos, tanh=np_.tanh, log1p=np_.log1p,
            logsumexp=logsumexp, softmax=lambda x: jax.nn.softmax(x, -1),
        )  # fmt: skip

    def numpy(self, results):
        return [np.asarray(r) for r in results]

    def steps(self, function, arrays):
        compiled = self.jax.jit(function)
        inputs = [self.jax.numpy.asarray(a) for a in arrays]
        return lambda: self.jax.block_until_ready(compiled(*inputs))

    def forward(self, formula, arrays, count):
        return self.steps(lambda *args: (formula(self.m, *args),), arrays)

    def gradient(self, formula, arrays, count):
        both = self.jax.value_and_grad(lambda *args: formula(self.m, *args), tuple(range(count)))

        def function(*args):
            value, grads = both(*args)
            return (value, *grads)

        return self.steps(function, arrays)

    def hvp(self, formula, arrays, directions):
        count = len(directions)
        along = tuple(self.jax.numpy.asarray(d) for d in directions)
        grad = self.jax.grad(lambda *args: formula(self.m, *args), tuple(range(count)))

        def function(*args):
            rest = args[count:]
            return self.jax.jvp(lambda *ws: grad(*ws, *rest), args[:count], along)[1]

        return self.steps(function, arrays)

    def training(self, weights, x, y):
        jax, jnp = self.jax, self.jax.numpy

        def loss(ws):
            h = x
            for k in range(0, len(ws), 2):
                h = h @ ws[k].T + ws[k + 1]
                h = jax.nn.relu(h) if k + 2 < len(ws) else h
            picked = jnp.take_along_axis(jax.nn.log_softmax(h, -1), y[:, None], 1)
            return -picked.mean()

        @jax.jit
        def update(ws, first, second, t):
            value, grads = jax.value_and_grad(loss)(ws)
            first = [0.9 * a + 0.1 * g for a, g in zip(first, grads, strict=True)]
            second = [0.999 * b + 0.001 * g * g for b, g in zip(second, grads, strict=True)]
            ws = [
                w - 1e-3 * (a / (1 - 0.9**t)) / (jnp.sqrt(b / (1 - 0.999**t)) + 1e-8)
                for w, a, b in zip(ws, first, second, strict=True)
            ]
            return value, ws, first, second

        x, y = jnp.asarray(x), jnp.asarray(y)
        state = [jnp.asarray(w) for w in weights]
        state = [state, [jnp.zeros_like(w) for w in state], [jnp.zeros_like(w) for w in state]]
        count = 0

        def step():
            nonlocal count
            count += 1
            value, *state[:] = update(*state, np.float32(count))
            return float(value)

        return step


class Casadi:
    """Symbolic, compiled to CasADi's own virtual machine; called on NumPy arrays."""

    def __init__(self):
        import casadi as ca

        self.ca, self.version = ca, ca.__version__
        self.m = SimpleNamespace(
            sum=lambda x: ca.sum1(ca.sum2(x)), exp=ca.exp, sin=ca.sin, cos=ca.cos, tanh=ca.tanh,
            log1p=ca.log1p, logsumexp=ca.logsumexp, softmax=self._softmax,
        )  # fmt: skip

    def _softmax(self, x):
        e = self.ca.exp(x - self.ca.repmat(self.ca.mmax(x), *x.shape))
        return e / self.ca.repmat(self.ca.sum2(e), 1, x.shape[1])

    def numpy(self, results):
        return [np.asarray(r) for r in results]

    def symbols(self, arrays, count):
        if any(a.dtype == np.float32 for a in arrays):
            raise NotAvailableError("float64 only")
        if max(a.size for a in arrays) > 10**5:
            raise NotAvailableError("too large")
        columns = [a.reshape(len(a), -1) for a in arrays]
        symbols = [self.ca.MX.sym(f"x{k}", *a.shape) for k, a in enumerate(columns[:count])]
        return symbols, [self.ca.DM(a) for a in columns[count:]], columns[:count]

    def steps(self, symbols, results, inputs):
        function = self.ca.Function("f", symbols, results)
        return lambda: function.call(inputs)

    def forward(self, formula, arrays, count):
        symbols, constants, inputs = self.symbols(arrays, count)
        return self.steps(symbols, [formula(self.m, *symbols, *constants)], inputs)

    def gradient(self, formula, arrays, count):
        symbols, constants, inputs = self.symbols(arrays, count)
        value = formula(self.m, *symbols, *constants)
        return self.steps(symbols, [value, *[self.ca.gradient(value, s) for s in symbols]], inputs)

    def hvp(self, formula, arrays, directions):
        symbols, constants, inputs = self.symbols(arrays, len(directions))
        value = formula(self.m, *symbols, *constants)
        along = sum(
            self.ca.dot(self.ca.gradient(value, s), self.ca.DM(d))
            for s, d in zip(symbols, directions, strict=True)
        )
        return self.steps(symbols, [self.ca.gradient(along, s) for s in symbols], inputs)

    def training(self, weights, x, y):
        raise NotAvailableError("-")


class Autograd:
    def __init__(self):
        import autograd
        import autograd.numpy as anp
        from autograd.scipy.special import logsumexp

        self.autograd, self.version = autograd, metadata.version("autograd")
        self.m = SimpleNamespace(
            sum=anp.sum, exp=anp.exp, sin=anp.sin, cos=anp.cos, tanh=anp.tanh, log1p=anp.log1p,
            logsumexp=logsumexp, softmax=lambda x: anp.exp(x - logsumexp(x, 1, keepdims=True)),
        )  # fmt: skip

    def numpy(self, results):
        return [np.asarray(r) for r in results]

    def forward(self, formula, arrays, count):
        return lambda: (formula(self.m, *arrays),)

    def gradient(self, formula, arrays, count):
        both = self.autograd.value_and_grad(
            lambda inputs: formula(self.m, *inputs, *arrays[count:])
        )

        def step():
            value, grads = both(tuple(arrays[:count]))
            return (value, *grads)

        return step

    def hvp(self, formula, arrays, directions):
        count = len(directions)
        grad = self.autograd.grad(lambda inputs: formula(self.m, *inputs, *arrays[count:]))

        def along(inputs):
            return sum(self.m.sum(g * d) for g, d in zip(grad(inputs), directions, strict=True))

        hvp = self.autograd.grad(along)
        return lambda: hvp(tuple(arrays[:count]))

    def training(self, weights, x, y):
        raise NotAvailableError("-")


LIBRARIES = {
    "flatgrad": Flatgrad,
    "torch": Torch,
    "torch.compile": TorchCompile,
    "jax": Jax,
    "casadi": Casadi,
    "autograd": Autograd,
}


def resident_megabytes() -> float:
    """Memory of this process now, on Linux; its peak elsewhere."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"
