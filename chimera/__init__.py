"""Chimera: an event-sourced fleet of autonomous influencer agents on Apache Kafka."""
