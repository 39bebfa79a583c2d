"""What runs inside containers and worker processes: scheduler, worker, plugin, lease, health, keys, tasks.

It imports `canvod.launch.readers` and `canvod.launch.memory_limit`, and nothing else of the project. The
launcher imports from it the names and messages of both sides: `cluster` and `detached` those of keys and
lease, `ingest` the tasks.
"""
