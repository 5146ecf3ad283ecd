"""Chat: a page on this machine, friends on other nodes, and a history that is kept."""
