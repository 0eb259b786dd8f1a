"""policy: divides the budget over domains and advances runs."""
