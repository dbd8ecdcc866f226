"""Read the environment, the configuration file and the keys file into a validated configuration."""
