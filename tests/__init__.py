"""Consentry's tests, by what they need: a function, a port, a process, or the whole."""
