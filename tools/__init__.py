"""The drivers: prepare, train, evaluate, report, demo, and the command line."""
