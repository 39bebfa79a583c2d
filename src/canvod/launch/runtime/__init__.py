"""Entry points of scheduler and workers, and what runs inside them.

Below it: `readers`, `memory_limit`, `units`. It imports nothing of the launcher.
"""
