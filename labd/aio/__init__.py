"""asyncio tools that several packages use."""
