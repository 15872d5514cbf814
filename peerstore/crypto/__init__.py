"""The only importer of Crypto: keys, key derivation, boxes, statements."""
