"""The demo: a real network, a real file, a thousand pings, and a table that says whether all of it was so."""
