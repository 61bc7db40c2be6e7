"""The wire: topics, messages, and the MQTT link they travel on (design §5)."""
