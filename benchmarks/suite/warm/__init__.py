"""Calls of programs that are compiled and loaded: what a user pays every time."""
