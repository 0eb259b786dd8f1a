"""What every process runs: handler tables, the consumer loop, fan-out windows, launchers."""
