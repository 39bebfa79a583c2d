"""What runs inside containers and worker processes: scheduler, worker, plugin, lease, health, keys, tasks.

It imports nothing of the launcher: below it are `canvod.launch.readers`, `memory_limit` and `units` only.
Above it: the launcher, which imports the names and messages of both sides (`cluster` and `detached` those of
keys and lease, `ingest` the tasks).
"""
