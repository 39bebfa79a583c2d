"""From settings and a host to the plan of a cluster: pure functions and frozen values.

Below it: `config`, the values of `host` (inventory, CPU lists, labels), `memory_limit`. Above it: `docker`,
`images`, `cluster`. Nothing here opens a file, reads the environment or the clock, or asks the system.
"""
