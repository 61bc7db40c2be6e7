"""The wire contract: topics, messages, events, results and their schemas; no MQTT."""
