"""Start a pinned, capped and contained Dask cluster on one host, and ingest GNSS files with it."""
