"""What every process does the same way: configuration, logs, metrics, signals, an orderly end."""
