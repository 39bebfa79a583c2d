"""From settings and a host to the plan of a cluster: pure functions and frozen values.

Nothing here opens a file, reads the environment or the clock, or asks the system: `planner` gets everything
as an argument, and `model` is the result. Below it: `config`, the values of `host` (inventory, CPU lists,
labels), `memory_limit`. Above it: `docker`, `images` and `cluster`, which carry the plan out, and `cli`,
which shows it.
"""
