"""Servers for tests and benchmarks, each a context manager that yields its URL: real ones, and one that misbehaves.

Ports are chosen by the system. `skip_without` skips a test where the program of a server is not installed.
"""
