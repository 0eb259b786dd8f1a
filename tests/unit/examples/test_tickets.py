"""The committed support tickets are what their generator writes, and as long-tailed as the README says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[3]
TICKETS = ROOT / "examples" / "data" / "tickets.jsonl"


def test_generating_the_tickets_again_gives_the_same_bytes(tmp_path: Path) -> None:
    output = tmp_path / "tickets.jsonl"
    subprocess.run(
        [sys.executable, ROOT / "scripts" / "generate_tickets.py", "--output", output], check=True, capture_output=True
    )
    assert output.read_bytes() == TICKETS.read_bytes()


def test_the_tickets_are_many_different_and_long_tailed() -> None:
    rows = [json.loads(line) for line in TICKETS.read_text(encoding="utf-8").splitlines()]
    sizes = Counter(row["domain"] for row in rows)
    assert len(rows) >= 2000
    assert len(sizes) >= 8
    assert max(sizes.values()) >= 50 * min(sizes.values())
    assert len({row["id"] for row in rows}) == len({row["input"].lower() for row in rows}) == len(rows)
    assert all(row["domain"] == row["answer"] for row in rows)
    assert all(10 <= len(row["input"].split()) <= 30 for row in rows)
    assert TICKETS.stat().st_size < 500_000


def test_no_domain_is_told_by_its_name_alone() -> None:
    rows = [json.loads(line) for line in TICKETS.read_text(encoding="utf-8").splitlines()]
    for domain in ("export", "search", "invite", "sync", "privacy", "api"):
        elsewhere = sum(domain in row["input"].lower() for row in rows if row["domain"] != domain)
        assert elsewhere > 0, domain
