"""Stations: how stations.toml describes them, and how one is opened, flashed and powered."""
