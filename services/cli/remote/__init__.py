"""Commands that speak to running services (`--endpoint`)."""
