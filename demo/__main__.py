"""`python -m demo`: tell the story of months 1 to 4 and write its table and plot to demo-out/."""

from __future__ import annotations

import sys
import time

from ct.errors import CTError
from ct.home import Home
from demo.report import write_story, write_table
from demo.story import PROJECT, Setting, StoryError, clear, problems, tell

MONTHS = (1, 2, 3, 4)
OUT = PROJECT / "demo-out"


def main() -> int:
    """Tell the story; 0 when it went as it must."""
    home = Home(PROJECT / ".ct-demo")
    clear(home)
    began = time.monotonic()
    try:
        story = tell(
            Setting(home, MONTHS, None, lambda line: print(f"[{time.monotonic() - began:5.0f} s] {line}", flush=True))
        )
    except (StoryError, CTError) as error:
        print(f"The demo stopped: {error}", file=sys.stderr)
        return 1
    write_story(story, OUT)
    print(f"\n{write_table(story.months)}\n")
    traffic = story.traffic
    print(f"requests: {traffic.requests:,}, failed: {traffic.failed}, by version: {traffic.by_version}")
    print(f"rollback: version {story.rolled_back_from} -> {story.rolled_back_to} in {story.rollback_seconds:.2f} s")
    print(f"whole story: {story.total_seconds:.0f} s; table, numbers and plot are in {OUT.relative_to(PROJECT)}/")
    wrong = problems(story)
    for problem in wrong:
        print(f"not as it must be: {problem}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
