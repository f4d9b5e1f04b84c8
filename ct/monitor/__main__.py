"""The monitor's process: `python -m ct.monitor`. `ct up` starts it; one runs in a home."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING

from ct.deploy import deployed_pipelines, deployed_spec
from ct.errors import CTError
from ct.home import Home
from ct.lifetime import compute_when_idle
from ct.monitor.actions import RealActions
from ct.monitor.monitor import VARIANTS, ModelMonitor, Ports, records_of
from ct.monitor.notify import Outbox, send_with_apprise
from ct.monitor.pairing import Pairing
from ct.monitor.run_news import RunNews
from ct.monitor.serving_metrics import ServingMetrics
from ct.monitor_config import MonitorConfig
from ct.registry import MlflowRegistry
from ct.settings import Settings
from ct.triggers.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ct.monitor.counters import Variant
    from ct.monitor.records import Records

LOG = logging.getLogger("ct.monitor")
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
EVERY_S = 5.0
PAIRS_EVERY = timedelta(minutes=1)
NICE = 5
"""Whoever answers requests goes first."""


class Monitor:
    """Watches every model of a home."""

    def __init__(self, home: Home, settings: Settings) -> None:
        self._home = home
        self._metrics = ServingMetrics(home, settings)
        self._actions = RealActions(home, MlflowRegistry(settings.mlflow_base_url))
        self._models: dict[tuple[str, Variant], ModelMonitor] = {}
        self._pairings: list[Pairing] = []
        self._news: dict[str, RunNews] = {}

    def look(self) -> None:
        """One look at each model, then at each pipeline's runs: telling people may be slow, and a rollback must not wait.

        What goes wrong with one does not keep the others from being looked at.
        """
        for path in sorted(self._home.models.glob("*/desired.json")):
            self._try(path.parent.name, lambda name: self._of(name, "champion").resume())
            for variant in VARIANTS:
                self._try(path.parent.name, partial(self._watch, variant))
        for name in deployed_pipelines(self._home):
            self._try(name, self._tell_news)

    def _watch(self, variant: Variant, name: str) -> None:
        config = config_of(self._home, name)
        if config.enabled:
            self._of(name, variant).look(config)

    def _tell_news(self, name: str) -> None:
        config = config_of(self._home, name)
        if config.enabled:
            self._news_of(name).look(config, _now())

    def _try(self, name: str, look: Callable[[str], object]) -> None:
        try:
            look(name)
        except CTError as error:
            LOG.warning("%s: %s", name, error.message)
        except Exception:
            LOG.exception("%s: this look failed; the next one begins anew", name)

    def stop(self) -> None:
        """End the processes that were started."""
        for pairing in self._pairings:
            pairing.stop()

    def _of(self, name: str, variant: Variant) -> ModelMonitor:
        if (name, variant) not in self._models:
            records = records_of(self._home, name, variant)
            pairing = Pairing(self._home, name, records, every=PAIRS_EVERY, step_back=compute_when_idle)
            ports = Ports(self._metrics, self._actions, pairing, self._outbox_of(records), _now)
            self._pairings.append(pairing)
            self._models[name, variant] = ModelMonitor(self._home, name, ports, variant=variant)
        return self._models[name, variant]

    def _news_of(self, name: str) -> RunNews:
        if name not in self._news:
            ledger, records = Ledger.open(self._home), records_of(self._home, name)
            outbox = self._outbox_of(records)
            self._news[name] = RunNews(self._home, partial(ledger.runs, name), records.folder, outbox)
        return self._news[name]

    def _outbox_of(self, records: Records) -> Outbox:
        return Outbox(self._home, records.folder / "outbox", send_with_apprise)


def config_of(home: Home, model: str) -> MonitorConfig:
    """The `monitor:` block that the model's pipeline was deployed with; the defaults for a model without a pipeline.

    Raises:
        ConfigError: the deployed spec cannot be read.
    """
    if model not in deployed_pipelines(home):
        return MonitorConfig()
    return MonitorConfig.model_validate(deployed_spec(home, model).config.get("monitor", {}))


def main() -> int:
    """Look until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format=LOG_FORMAT)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each look
    home = Home.from_environment()
    home.check_layout()
    os.nice(NICE)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with _only_one(home):
        monitor = Monitor(home, Settings.load(home))
        LOG.info("watching the models of %s", home.root)
        try:
            while not stop.is_set():
                monitor.look()
                stop.wait(EVERY_S)
        finally:
            monitor.stop()
    LOG.info("asked to stop")
    return 0


@contextmanager
def _only_one(home: Home) -> Iterator[None]:
    """Wait until no other monitor of this home runs; its lock goes with its process."""
    home.monitor.mkdir(parents=True, exist_ok=True)
    with (home.monitor / "lock").open("w", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _now() -> datetime:
    return datetime.now(timezone.utc)


if __name__ == "__main__":
    sys.exit(main())
