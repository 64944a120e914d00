"""The rooms with effects: ssh, the engine, files, the network."""
