"""NumPy's face: ``np.sin(x)``, ``np.sum(x, axis=0)``, ``array * x`` on tensors record.

NumPy asks an operand's class first (``__array_ufunc__``, ``__array_function__``); tensors answer
with the public function that names the NumPy function in its declaration (``Public.numpy``), or
with an adapter of ``functions`` where arguments differ. What flatgrad does not record raises
:class:`flatgrad.errors.UnsupportedError`, a ``TypeError``; nothing silently becomes an array.

So code written for NumPy is differentiated as it stands:

>>> import numpy as np
>>> import flatgrad as fg
>>> def rosenbrock(x):
...     return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)
>>> x = fg.tensor([0.0, 1.0], requires_grad=True)
>>> fg.autograd.grad(rosenbrock(x), x)[0].tolist()
[-2.0, 200.0]

SciPy's optimisers get value and gradient in two lines:

>>> from scipy.optimize import minimize
>>> def value_and_grad(x):
...     t = fg.tensor(x, requires_grad=True)
...     y = rosenbrock(t)
...     return y.item(), fg.autograd.grad(y, t)[0].numpy()
>>> minimize(value_and_grad, np.zeros(3), jac=True).x.round(4).tolist()
[1.0, 1.0, 1.0]
"""

from __future__ import annotations

from ..tensor import Tensor
from .functions import array_function
from .ufuncs import array_ufunc

__all__ = ["array_function", "array_ufunc"]

Tensor.__array_ufunc__ = array_ufunc
Tensor.__array_function__ = array_function
