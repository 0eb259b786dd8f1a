"""The bus over Kafka: the only importer of its client library."""
