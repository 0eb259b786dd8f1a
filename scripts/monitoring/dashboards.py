"""Writes the dashboards that the monitoring component mounts: `python -m scripts.monitoring.dashboards [--check]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from scripts.monitoring import budget_spend, runs_and_quality, services_health

FOLDER = Path("k8s/components/monitoring/dashboards")


def texts() -> dict[str, str]:
    """Return each dashboard's JSON by its file's name."""
    modules = (budget_spend, runs_and_quality, services_health)
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{module.UID}.json": encoder.encode(module.build().build()) + "\n" for module in modules}


def main() -> int:
    """Write, or with --check tell what is not as it would be written."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a file differs")
    is_check = parser.parse_args().check
    stale = []
    for name, text in texts().items():
        path = FOLDER / name
        if is_check:
            stale += [name] if not path.exists() or path.read_text() != text else []
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if stale:
        print(f"not as their code says: {', '.join(stale)}; run `python -m scripts.monitoring.dashboards`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
