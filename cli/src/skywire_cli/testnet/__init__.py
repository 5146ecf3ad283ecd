"""A whole network on one machine, every process real: the plan of it, its files, and who runs it.

plan ──▶ config (documents) ──▶ network (directories, processes) ──▶ state (file) ──▶ view (table)
"""
