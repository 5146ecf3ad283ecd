"""Apps as processes: spawned with their pipe on descriptors 3 and 4, watched, restarted, stopped and reaped."""
