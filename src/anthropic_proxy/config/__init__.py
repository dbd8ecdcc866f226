"""Environment, configuration file and keys file, read into one validated configuration."""
