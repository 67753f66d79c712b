"""python -m benchmarks [compare | codecs | memory | capture | fleet]: measure and print; `make bench` runs two of them."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks import compare, database, report


def main() -> int:
    """Run what is asked for; an aim that is not met is said, and is no failure of the program."""
    options = _parser().parse_args()
    if options.what == "codecs":
        from benchmarks import levels  # imports the product, which would count in the peaks of children (see measure.py)

        report.say(levels.run(options.size))
    elif options.what == "memory":
        from benchmarks import memory

        report.say(memory.run(sorted({64 << 20, 256 << 20, options.size})))
    elif options.what == "capture":
        from benchmarks import capture

        report.say(capture.run(options.size, seconds=options.seconds))
    elif options.what == "fleet":
        from benchmarks import fleet

        report.say(fleet.run())
    else:
        _compare(options)
    return 0


def _compare(options: argparse.Namespace) -> None:
    before = report.machine()
    result = compare.run(options.size, rounds=options.rounds, peers=options.peers)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(result, before), indent=2) + "\n", encoding="utf-8")
    report.say(report.compared(result, before))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    kinds = ("compare", "codecs", "memory", "capture", "fleet")
    parser.add_argument("what", nargs="?", choices=kinds, default="compare")
    parser.add_argument("--size", type=database.parse_size, default="1G", help="of the database: 64M, 1G (default)")
    parser.add_argument("--seconds", type=int, default=3600, help="with capture: so long a time, simulated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=_peers, default=compare.PEERS, help="which to compare with: restic,borg,sqlite")
    parser.add_argument("--json", type=Path, help="also write every single figure to this file")
    return parser


def _peers(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    unknown = [name for name in names if name not in compare.PEERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no peer {', '.join(unknown)}; there are {', '.join(compare.PEERS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
