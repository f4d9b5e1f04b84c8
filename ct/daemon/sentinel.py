"""The sentinel: heals a home whose supervisord died.

A supervised process itself, so supervisord restarts it when it dies, as it restarts supervisord: no single death goes
unhealed. When its parent is gone it ends what that left behind and starts a fresh supervisord, which brings a sentinel
of its own; then it ends. An orderly stop sends it SIGTERM before any other process, and it leaves without healing.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
from datetime import datetime, timedelta, timezone

from ct.daemon import config, heals, supervisord, sweep
from ct.daemon.heals import Heal
from ct.errors import CTError
from ct.home import Home

LOG = logging.getLogger("ct.sentinel")
LOG_NAME = "sentinel.log"
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
HEALS_MAX = 5
WINDOW = timedelta(minutes=10)
"""So many heals in so long, and the next death is final: something kills supervisord on purpose or by habit."""
WAIT_MAX_S = 30.0


def main() -> int:
    """Wait for the parent's death or for SIGTERM."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    home = Home.from_environment()
    # Not to stderr: that is a pipe to supervisord, and what matters is written after its death.
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, filename=home.logs / LOG_NAME)
    # Not getppid: supervisord may have died while this process was starting.
    parent = int((home.run / config.PID_FILE).read_text(encoding="ascii"))
    LOG.info("watching supervisord, pid %d", parent)
    if not _parent_died(parent):
        LOG.info("asked to stop")
        return 0
    return _heal(home, parent)


def _parent_died(parent: int) -> bool:
    """Block until the parent is gone (True) or SIGTERM or SIGINT arrives (False)."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)  # its number goes into the pipe
    try:
        descriptor = os.pidfd_open(parent)
    except ProcessLookupError:
        return True
    if os.getppid() != parent:  # it went before the pidfd named it, which then may name another process
        return True
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    poll.register(reader, select.POLLIN)
    ready = {found for found, _ in poll.poll()}
    return reader not in ready


def _heal(home: Home, dead: int) -> int:
    # From here on SIGTERM ends this process as it would any other: a `ct down` that sweeps must win.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    now = datetime.now(timezone.utc)
    recent = [heal for heal in heals.recorded(home) if now - heal.at < WINDOW]
    swept = sweep.sweep({sweep.INSTANCE: home.instance})
    LOG.warning("supervisord (pid %d) died; ended the %d processes that it left behind", dead, len(swept))
    if len(recent) >= HEALS_MAX:
        message = (
            f"supervisord died {len(recent) + 1} times within {WINDOW.seconds // 60} minutes and was not started again. "
            f"Nothing is running. See {home.logs / 'daemon.log'}, then run `ct up`."
        )
        return _give_up(home, message)
    signal.sigtimedwait((), min(WAIT_MAX_S, 2.0 ** len(recent) - 1))  # 0, 1, 3, 7, 15 s; SIGTERM ends the wait, and us
    try:
        supervisord.start(home)
    except (CTError, OSError) as error:
        return _give_up(home, f"supervisord (pid {dead}) died and cannot be started again: {error}")
    message = f"supervisord (pid {dead}) died; ended {len(swept)} processes that it left behind and started a fresh one"
    heals.record(home, Heal(at=datetime.now(timezone.utc), message=message))
    LOG.warning("%s", message)
    return 0


def _give_up(home: Home, message: str) -> int:
    LOG.error("%s", message)
    heals.record(home, Heal(at=datetime.now(timezone.utc), message=message, gave_up=True))
    return 1


if __name__ == "__main__":
    sys.exit(main())
