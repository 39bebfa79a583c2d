"""Clusters that outlive their command: start, discovery, credentials, status, scaling, the Compose file.

It starts containers by `canvod.launch.cluster`, as `canvod.launch.manager` does, and reaches clusters
that other processes have started with the keys that their scheduler keeps. Below it: `cluster`, `docker`,
`plan`, `host`. Above it: `manager`, which attaches to a cluster by its name, and `cli`.
"""
