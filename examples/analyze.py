"""Reads a log of Debian's package manager, tells what was installed and how long it took, and writes two reports.

Usage: python analyze.py LOG [OUTPUT_FOLDER]
"""

import collections
import csv
import datetime
import json
import pathlib
import sys


def read(path):
    """Yields (time, action, package, version) of every line that names a package."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.split()
        if len(words) < 5:
            continue  # "startup archives unpack" and the like
        try:
            when = datetime.datetime.fromisoformat(f"{words[0]} {words[1]}")
        except ValueError:
            sys.exit(f"{path}:{number}: no date and time at the beginning of the line")
        if words[2] == "status":
            yield when, words[3], words[4], words[5]
        else:
            yield when, words[2], words[3], words[-1]


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    log = pathlib.Path(sys.argv[1])
    output = pathlib.Path(sys.argv[2] if len(sys.argv) == 3 else "output")

    first, unpacked, installed, version = {}, {}, {}, {}
    per_second = collections.Counter()
    lines = 0
    for when, action, package, text in read(log):
        lines += 1
        first.setdefault(package, when)
        if action == "unpacked":
            unpacked.setdefault(package, when)
            per_second[when] += 1
        elif action == "installed":
            installed[package] = when
            version[package] = text

    if not installed:
        sys.exit(f"{log}: no package was installed")
    begin, end = min(first.values()), max(installed.values())
    slowest = sorted(unpacked, key=lambda name: (first[name] - unpacked[name], name))[:5]

    print(f"{lines} events, {len(installed)} packages installed in {(end - begin).seconds} s")
    print(f"most unpacked within one second: {max(per_second.values())}")
    print("slowest to unpack:")
    for package in slowest:
        print(f"  {package:32} {(unpacked[package] - first[package]).seconds:3} s")

    output.mkdir(parents=True, exist_ok=True)
    with open(output / "packages.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["package", "version", "installed_at"])
        for package in sorted(installed):
            table.writerow([package, version[package], installed[package].isoformat()])
    summary = {
        "events": lines,
        "packages": len(installed),
        "seconds": (end - begin).seconds,
        "slowest": slowest,
    }
    (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    print(f"wrote {output}/packages.csv and {output}/summary.json")


if __name__ == "__main__":
    main()
