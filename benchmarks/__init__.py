"""What measured the tables in results/; each is run as `python -m benchmarks.NAME` in the repository's folder."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
