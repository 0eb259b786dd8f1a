"""Generated from protos/baldistill/v1 by scripts/generate_protos.py; never edited by hand."""
