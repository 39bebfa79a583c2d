"""From observation files to days in an Icechunk store, and back to lazy arrays.

`job` is an ingest from start to end, `run` one on workers that are there, and `stream` its loop: `units`
decides what is made of which files, `runner` or `pool` has the workers make it, and `commit` writes it into
the `group`, whose rows are divided into `days`, and whose `log_book` says what became of every file. `store`
is the only module besides `canvod.launch.runtime.unit_tasks` that imports icechunk; `read` and `inspect` open
a store. Below it: `canvod.launch.manager`, which gives it a cluster, `runtime`, whose tasks it submits, and
`readers`. Above it: `cli`.
"""
