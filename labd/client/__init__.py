"""The client of a lab: requests, replies, and job events over MQTT."""
