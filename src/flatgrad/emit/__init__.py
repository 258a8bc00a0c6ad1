"""Flat loops to source: readable Python for Numba, LLVM for the same Numba function's body, C99."""
