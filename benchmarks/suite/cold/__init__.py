"""Compiling with nothing on disk, each sample in a fresh process, and the stages of it."""
