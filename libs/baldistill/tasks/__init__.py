"""Tasks as data: templates of prompts, and how an answer is read out of a text."""
