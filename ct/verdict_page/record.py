"""A run's verdict, and a person's answer to it, as they lie in the run's folder.

::

    runs/<run_id>/
      Gate.result.json       facts: {"verdict": Verdict, ...}
      Register.result.json   facts: {"version": 7, "agreement": RefitAgreement or null, "withheld": why or null, ...}
      asked.json             Question, while and after a person is asked
      approval.json          contracts.Approval, once a person or the time-out has answered
      proof.json             contracts.Proof, once the artifact was proven

Every function that reads raises CTError when a file is there and cannot be read.
"""

from __future__ import annotations

import re
from datetime import datetime  # noqa: TC003  pydantic needs the class at run time
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import Field, ValidationError

from ct.contracts import Approval, NodeResult, Proof, RefitAgreement, Value, Verdict
from ct.errors import CTError
from ct.home import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import BaseModel

    from ct.home import Home

    Model = TypeVar("Model", bound=BaseModel)

RUN_ID = re.compile(r"[A-Za-z0-9_-]+")
GATE, REGISTER = "Gate", "Register"
QUESTION, ANSWER, PROOF = "asked.json", "approval.json", "proof.json"


class Question(Value):
    """A person is asked whether a candidate may serve."""

    asked_at: datetime
    until: datetime = Field(description="From then on the default is the answer.")
    approves_by_default: bool


def verdict_of(home: Home, run_id: str) -> Verdict | None:
    """The gate's verdict in a run; None when the gate has not judged, or there is no such run."""
    result = _read(home, run_id, f"{GATE}.result.json", NodeResult)
    found = result.facts.get("verdict") if result is not None and result.ok else None
    return None if found is None else Verdict.model_validate(found)


def version_of(home: Home, run_id: str) -> int | None:
    """The version that a run registered, if it has."""
    return _registered(home, run_id).get("version")


def agreement_of(home: Home, run_id: str) -> RefitAgreement | None:
    """How a run's refit did beside the candidate; None when there was none, or not yet."""
    found = _registered(home, run_id).get("agreement")
    return None if found is None else RefitAgreement.model_validate(found)


def withheld_of(home: Home, run_id: str) -> str | None:
    """Why a run's version may not serve although it was approved; None for every other."""
    return _registered(home, run_id).get("withheld")


def approval_of(home: Home, run_id: str) -> Approval | None:
    """What a person or the time-out answered in a run; None when nobody was asked, or has answered yet."""
    return _read(home, run_id, ANSWER, Approval)


def proof_of(home: Home, run_id: str) -> Proof | None:
    """What came of a run's proof; None when there was none, or not yet."""
    return _read(home, run_id, PROOF, Proof)


def open_question(home: Home, run_id: str) -> Question | None:
    """The question that nobody has answered yet; None when there is none. Says nothing of whether the run still goes on."""
    question = _read(home, run_id, QUESTION, Question)
    return question if approval_of(home, run_id) is None else None


def ask(home: Home, run_id: str, question: Question) -> None:
    """Record that a person is asked. An answer to an earlier question of this run, about another verdict, is dropped."""
    forget_answer(home, run_id)
    write_atomically(_folder(home, run_id) / QUESTION, question.model_dump_json(indent=2))


def answer(home: Home, run_id: str, approval: Approval) -> None:
    """Record the answer; it is on disk when this returns."""
    write_atomically(_folder(home, run_id) / ANSWER, approval.model_dump_json(indent=2))


def forget_answer(home: Home, run_id: str) -> None:
    """Drop question and answer: the gate has judged anew."""
    for name in (ANSWER, QUESTION):
        (_folder(home, run_id) / name).unlink(missing_ok=True)


def _registered(home: Home, run_id: str) -> dict[str, Any]:
    """What Register reported; nothing when it has not run."""
    result = _read(home, run_id, f"{REGISTER}.result.json", NodeResult)
    return {} if result is None else result.facts


def _read(home: Home, run_id: str, name: str, model: type[Model]) -> Model | None:
    """None when the file is not there.

    Raises:
        CTError: it is there and cannot be read: what a person answered must not be taken for no answer.
    """
    try:
        return model.model_validate_json((_folder(home, run_id) / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise CTError(
            f"{name} of run {run_id} cannot be read: {error.error_count()} problems; another ct may have written it. "
            f"What serves is not affected. Read it with the ct that wrote it, or look at {home.runs / run_id / name}.",
            run_id=run_id,
            file=name,
        ) from error


def _folder(home: Home, run_id: str) -> Path:
    """The run's folder, which is inside the home whatever the id says.

    Raises:
        FileNotFoundError: the id is none, or its folder leads elsewhere.
    """
    folder = (home.runs / run_id).resolve()
    if not RUN_ID.fullmatch(run_id) or folder.parent != home.runs.resolve():
        raise FileNotFoundError(run_id)
    return folder
