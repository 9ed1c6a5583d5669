"""From a command line to run directories to processes."""
