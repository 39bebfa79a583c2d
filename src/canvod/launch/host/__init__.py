"""What this machine has and what is taken: cores, memory, control groups, owners, clusters, ports.

`detect` reads the machine; `inventory` and `clusters` hold the values that it is described by. Below it:
`canvod.launch.units`, `logs`. Above it: `plan`, which is made from its values, and whoever starts
clusters.
"""
