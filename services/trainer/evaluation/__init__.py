"""How good a student is, per domain: which items are asked, how answers are scored, what they are compared with."""
