"""Bytes and instructions: memory of processes, arenas, machine code."""
