"""What a person asks for (RunSpec), the methods it can name, and its frozen form."""
