"""Shards of documents: read, select, sample and write them."""
