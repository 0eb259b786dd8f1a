"""Files that data sets are imported from: JSONL, CSV, Parquet and saved Hugging Face data sets behind one port."""
