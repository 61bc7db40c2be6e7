"""MQTT: the link to a broker, bounded inboxes, and the embedded broker."""
