"""What this machine has and what is taken: cores, memory, control groups, who owns what, ports.

Below it: `errors`, `units`, `logs`. Above it: `plan`, which is made from its values.
"""
