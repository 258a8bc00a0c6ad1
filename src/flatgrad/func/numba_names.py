"""``g.njit`` inside ``@njit`` code: Numba learns what a compiled function's two attributes are.

Numba treats a global object by its type. A ``CompiledFunction`` gets one of its own, whose attributes
``njit`` and ``njit_out`` are the dispatchers; nothing of it exists at run time.
"""

from __future__ import annotations

__all__ = ["teach_numba"]

_taught = False


def teach_numba(kind: type) -> None:
    """Let objects of the class `kind` be named in Numba code. Once a process; imports Numba."""
    global _taught
    if _taught:
        return
    _taught = True
    from numba.core import types
    from numba.core.imputils import lower_constant, lower_getattr_generic
    from numba.core.typing.templates import AttributeTemplate
    from numba.extending import infer_getattr, models, register_model, typeof_impl

    class CompiledType(types.Opaque):
        """The type of one compiled function; two of them differ."""

        def __init__(self, function):
            self.function = function
            super().__init__(f"flatgrad.CompiledFunction({id(function)})")

    register_model(CompiledType)(models.OpaqueModel)

    @typeof_impl.register(kind)
    def _typeof(function, c):
        return CompiledType(function)

    @infer_getattr
    class Attributes(AttributeTemplate):
        key = CompiledType

        def generic_resolve(self, known, name):
            if name in ("njit", "njit_out"):
                return types.Dispatcher(getattr(known.function, name))
            return None

    @lower_getattr_generic(CompiledType)
    def _lower(context, builder, known, value, name):
        return context.get_dummy_value()

    @lower_constant(CompiledType)
    def _constant(context, builder, known, value):
        return context.get_dummy_value()
