"""The benchmarks: one program per question.

The docstring of each program states the question, the command, what is compared, the method, the machine it needs and
the result. Every result file also records the machine and the package versions. EXPERIMENTS.md interprets the results.
"""
