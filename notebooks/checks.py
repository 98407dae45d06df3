"""Counts checks for the test programs of this folder."""

from __future__ import annotations

import sys


class Checks:
    """Each check passes or fails; a failure is told on stderr at once, and the rest still runs."""

    def __init__(self) -> None:
        self.passed = self.failed = 0

    def that(self, good: bool, what: str) -> bool:
        """Counts one check. `what` says what is expected to hold, and in which place."""
        if good:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {what}", file=sys.stderr)
        return bool(good)

    def equal(self, found, expected, what: str) -> bool:
        """Counts one check that two values are equal, and shows both if they are not."""
        return self.that(found == expected, f"{what}: expected {expected!r}, found {found!r}"[:2000])

    def raises(self, kind: type[Exception], words: list[str], action, what: str) -> bool:
        """Counts one check that `action()` fails with an error of that kind whose message has all the words."""
        try:
            action()
        except kind as e:
            return self.that(all(w in str(e) for w in words), f"{what}: {str(e)!r} lacks one of {words}")
        return self.that(False, f"{what}: no {kind.__name__}")

    def finish(self) -> int:
        """Prints the totals, last. The exit code: 0 if all passed and there was something to check, else 1."""
        print(f"{self.passed} passed, {self.failed} failed")
        return 0 if self.passed and not self.failed else 1
