"""Fuzzer of every format that sbirlib reads.

    python -m tests.fuzz --cases 10000 --seed 0                    # all targets, in equal parts
    python -m tests.fuzz --cases 500 model_saved index_vectors     # some of them
    python -m tests.fuzz --save ...                                # write one entry of each fault into tests/fuzz/corpus
    python -m tests.fuzz --replay                                  # the corpus alone

A case alters files of a target and lets sbirlib read them, in a child process, for 10 s and 2 GiB at most. It ends in an InputError, or in
the answer to the unaltered files; files without a digest, or whose digests were written anew, may give another answer.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from tests.fuzz.case import corpus
from tests.fuzz.harness import Tally, fuzz, replay, scratch
from tests.fuzz.report import failures, table
from tests.fuzz.targets.all import TARGETS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help=f"default: all, {', '.join(TARGETS)}")
    parser.add_argument("--cases", type=int, default=10_000, help="of all targets together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="targets at once")
    parser.add_argument("--save", action="store_true", help="write an entry of each fault into the corpus")
    parser.add_argument("--replay", action="store_true", help="run the corpus alone")
    options = parser.parse_args()
    names = options.targets or (sorted({case.target for case in corpus().values()}) if options.replay else list(TARGETS))
    if unknown := set(names) - set(TARGETS):
        parser.error(f"unknown targets: {', '.join(sorted(unknown))}")
    with scratch() as folder, ThreadPoolExecutor(options.jobs) as pool:

        def run(name: str) -> Tally:
            place = folder / name
            if options.replay:
                tally = replay(name, [case for case in corpus().values() if case.target == name], place)
            else:
                tally = fuzz(name, place, cases=-(-options.cases // len(names)), seed=options.seed)
            print(table([tally]).splitlines()[1], flush=True)
            return tally

        tallies = list(pool.map(run, names))
    print(f"\n{table(tallies)}")
    if any(tally.failures for tally in tallies):
        print(f"\n{failures(tallies, options.seed)}")
        if options.save:
            _save(tallies)
        sys.exit(1)


def _save(tallies: list[Tally]) -> None:
    """Write the shortest case of each fault of each target into the corpus."""
    every = sorted((o for tally in tallies for o in tally.failures), key=lambda o: (o.case.target, o.group, len(o.case.entry())))
    for _, group in groupby(every, key=lambda o: (o.case.target, o.group)):
        print(f"saved {next(group).case.save()}")


if __name__ == "__main__":
    main()
