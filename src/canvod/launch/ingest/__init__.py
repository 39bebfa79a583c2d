"""From observation files to one commit in an Icechunk store, and back to lazy arrays.

`job` is an ingest from start to end, `run` its steps, `layout` decides where epochs go, `store` is the
only module besides `canvod.launch.runtime.tasks` that imports icechunk, and `read` opens a store. Below
it: `canvod.launch.manager`, which gives it a cluster, `runtime`, whose tasks it submits, and `readers`.
Above it: `cli`.
"""
