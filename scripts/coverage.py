"""Prints a table of line coverage by file for some folders, and fails if a folder's total is under the minimum.

Usage: coverage.py REPORT.json ROOT MINIMUM FOLDER ..
"""

import json
import sys


def main():
    report, root, minimum, *folders = sys.argv[1:]
    with open(report, encoding="utf-8") as file:
        files = json.load(file)["data"][0]["files"]
    short = []
    for folder in folders:
        covered = count = 0
        prefix = f"{root}/{folder}/src/"
        print(f"\n{folder}")
        for entry in sorted(files, key=lambda entry: entry["filename"]):
            name, lines = entry["filename"], entry["summary"]["lines"]
            if not name.startswith(prefix) or name.endswith("tests.rs") or "/tests/" in name[len(prefix) - 1:]:
                continue
            covered += lines["covered"]
            count += lines["count"]
            print(f"  {lines['percent']:6.1f} %  {lines['covered']:>5} of {lines['count']:>5}  {name[len(prefix):]}")
        total = 100 * covered / count if count else 0
        print(f"  {total:6.1f} %  {covered:>5} of {count:>5}  in all")
        if total < float(minimum):
            short.append(f"{folder} has {total:.1f} %")
    if short:
        sys.exit(f"\nerror: {', '.join(short)}; {minimum} % are required")
    print(f"\nall at or above {minimum} %")


main()
