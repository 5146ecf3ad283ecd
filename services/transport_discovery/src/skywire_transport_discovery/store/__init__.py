"""All SQL of the discovery: functions of a connection that is in a transaction, which `database` gives them."""
