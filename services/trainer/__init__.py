"""trainer: fine-tunes and measures students."""
