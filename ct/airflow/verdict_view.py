"""The pages that ct adds to Airflow's UI. Airflow's own dependency lets in who may read the DAG, and nobody else."""
# No `from __future__ import annotations`: FastAPI reads the annotations of functions that are made in a function.

from html import escape

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse

from ct.errors import CTError
from ct.home import Home
from ct.rollout import ModelStore, forced_of
from ct.triggers.ledger import Ledger
from ct.triggers.records import RunStatus
from ct.verdict_page import became, render
from ct.verdict_page.record import (
    agreement_of,
    approval_of,
    open_question,
    proof_of,
    verdict_of,
    version_of,
    withheld_of,
)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
EMPTY = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<title>No verdict</title><body style="font: 15px/1.5 system-ui, sans-serif; margin: 28px"><p>{text}</p></body></html>"""


def make_app(home: Home) -> FastAPI:
    """The application that Airflow mounts. It reads what is under the home, and writes nothing."""
    app = FastAPI(title="ct", docs_url=None, redoc_url=None, openapi_url=None)
    readable = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))

    @app.get("/verdicts/{dag_id}/{airflow_run_id}", dependencies=[readable])
    def verdict(dag_id: str, airflow_run_id: str) -> HTMLResponse:
        try:
            status, page = verdict_page(home, dag_id, airflow_run_id)
        except CTError as error:
            status, page = 500, _empty(error.message)
        return HTMLResponse(page, status_code=status, headers=HEADERS)

    return app


def verdict_page(home: Home, dag_id: str, airflow_run_id: str) -> tuple[int, str]:
    """HTTP status and page of a run's verdict; a sentence where there is none.

    Which folder is read is what the ledger says: nothing of a request becomes a path.

    Raises:
        CTError: the ledger does not answer, or what the run left cannot be read.
    """
    run = Ledger.open(home).run_of(dag_id, airflow_run_id)
    if run is None:
        return 404, _empty(f"No run of a ct pipeline is known as {dag_id}, {airflow_run_id}; or it has not begun yet.")
    found = verdict_of(home, run.run_id)
    if found is None:
        return 404, _empty(f"Run {run.run_id} has no verdict. It is {run.status.value}. {run.message}")
    version = version_of(home, run.run_id)
    return 200, render(
        name=run.pipeline,
        version=version,
        run_id=run.run_id,
        verdict=found,
        approval=approval_of(home, run.run_id),
        agreement=agreement_of(home, run.run_id),
        withheld=withheld_of(home, run.run_id),
        proof=proof_of(home, run.run_id),
        waits=run.status is RunStatus.RUNNING and open_question(home, run.run_id) is not None,
        afterwards=() if version is None else _afterwards(ModelStore(home, run.pipeline), version),
    )


def _afterwards(store: ModelStore, version: int) -> list[tuple[str, str]]:
    return became(forced_of(store.history(), version), store.quarantine_record(version))


def _empty(text: str) -> str:
    return EMPTY.format(text=escape(text))
